#include "cuda_shim/cuda/gate.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>

namespace tierd::shim::cuda {

constinit thread_local ThreadMark this_mark;

void Gate::close() {
    if (__atomic_load_n(&word_, __ATOMIC_RELAXED) != GateState::closed) drained_ = 0;
    __atomic_store_n(&word_, GateState::closed, __ATOMIC_SEQ_CST);
}

void Gate::drain() {
    if (drained_ != 0) return;
    if (__atomic_load_n(&barriers_in_kernel_, __ATOMIC_RELAXED) != 0)
        sys::call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    list_lock_.lock();
    for (uint32_t i = 0; i < count_; i++)
        while (__atomic_load_n(&threads_[i]->inside, __ATOMIC_SEQ_CST) != 0) ::sched_yield();
    list_lock_.unlock();
    drained_ = 1;
}

void Gate::at_thread_end(void* mark) {
    auto* ended = static_cast<ThreadMark*>(mark);
    ended->gate->forget_thread(ended);
}

void Gate::forget_thread(ThreadMark* mark) {
    list_lock_.lock();
    for (uint32_t i = 0; i < count_; i++) {
        if (threads_[i] != mark) continue;
        calls_of_ended_ += mark->calls;
        threads_[i] = threads_[--count_];
        break;
    }
    mark->listed = 0;
    list_lock_.unlock();
}

void Gate::list_this_thread() {
    if (this_mark.listed != 0) return;
    list_lock_.lock();
    if (has_key_ == 0) {
        pthread_key_t key = 0;
        if (::pthread_key_create(&key, &Gate::at_thread_end) == 0) {
            key_ = key;
            has_key_ = 1;
            bool registered = sys::call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
            __atomic_store_n(&barriers_in_kernel_, registered ? 1u : 0u, __ATOMIC_SEQ_CST);
        }
    }
    if (has_key_ != 0 && count_ < kMaxThreads && ::pthread_setspecific(key_, &this_mark) == 0) {
        threads_[count_++] = &this_mark;
        this_mark.gate = this;
        this_mark.listed = 1;
    }
    list_lock_.unlock();
}

uint64_t Gate::calls() {
    list_lock_.lock();
    uint64_t sum = calls_of_ended_;
    for (uint32_t i = 0; i < count_; i++) sum += __atomic_load_n(&threads_[i]->calls, __ATOMIC_RELAXED);
    list_lock_.unlock();
    return sum;
}

void Gate::reset_in_child() {
    list_lock_.reset();
    count_ = 0;
    this_mark = {};
    word_ = GateState::unused;
}

}  // namespace tierd::shim::cuda
