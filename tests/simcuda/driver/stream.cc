#include "tests/simcuda/driver/stream.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "tests/simcuda/driver/misuse.h"

namespace simcuda {
namespace {
thread_local bool is_stream_thread = false;

uint64_t next_stream_id() {
    static std::atomic<uint64_t> next = 1;
    return next++;
}
}  // namespace

bool on_stream_thread() {
    return is_stream_thread;
}

void Mark::reach(uint64_t end_ns) {
    std::lock_guard lock(mutex_);
    reached_ = true;
    end_ns_ = end_ns;
    reached_now_.notify_all();
}

bool Mark::reached() const {
    std::lock_guard lock(mutex_);
    return reached_;
}

uint64_t Mark::wait() const {
    std::unique_lock lock(mutex_);
    reached_now_.wait(lock, [this] { return reached_; });
    return end_ns_;
}

Stream::Stream(GpuClock& clock, CUcontext context, unsigned flags, int priority)
    : clock_(clock), context_(context), flags_(flags), priority_(priority), id_(next_stream_id()) {}

MarkPtr Stream::submit(const char* name, std::vector<MarkPtr> after, Run run) {
    auto mark = std::make_shared<Mark>();
    std::lock_guard lock(mutex_);
    queue_.push_back(Work{name, std::move(after), std::move(run), mark, clock_.now_ns()});
    tail_ = mark;
    if (!running_) {
        running_ = true;
        // Detached: the thread keeps the stream alive until its queue is empty, also after cuStreamDestroy, and a process
        // may exit while it waits for work.
        std::thread([self = shared_from_this()] { self->loop(); }).detach();
    }
    queued_.notify_one();
    return mark;
}

MarkPtr Stream::tail() const {
    std::lock_guard lock(mutex_);
    return tail_;
}

void Stream::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    queued_.notify_one();
}

void Stream::loop() {
    is_stream_thread = true;
    while (true) {
        std::unique_lock lock(mutex_);
        queued_.wait(lock, [this] { return closed_ || !queue_.empty(); });
        if (queue_.empty()) return;
        Work work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        perform(work);
    }
}

void Stream::perform(Work& work) {
    uint64_t ready_ns = std::max(work.submitted_ns, end_ns_);
    for (const MarkPtr& mark : work.after) ready_ns = std::max(ready_ns, mark->wait());
    CallName name(work.name);
    end_ns_ = work.run(clock_.start_ns(ready_ns));
    work.run = nullptr;  // what it holds is let go before anybody is told that it is done
    clock_.work_until(end_ns_);
    work.mark->reach(end_ns_);
}

}  // namespace simcuda
