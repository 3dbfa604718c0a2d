#include "cuda_shim/cuda/lease.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

#include "cuda_shim/cuda/gpu.h"
#include "cuda_shim/cuda/lock_guard.h"
#include "cuda_shim/cuda/residency_report.h"
#include "cuda_shim/host/log.h"
#include "cuda_shim/host/session.h"
#include "cuda_shim/host/shim_state.h"
#include "lib/session/wire.h"

namespace tierd::shim::cuda {

namespace {

constexpr uint64_t kReplyDeadlineMs = 500;
constexpr uint64_t kAskAfterMs = 250;  // without a word
constexpr uint64_t kRetryNs = 5'000'000'000u;
constexpr uint64_t kIdleNs = 20'000'000u;  // no call for so long: the process idles
constexpr uint64_t kReportNs = 1'000'000'000u;
constexpr int64_t kLookMs = 5;
constexpr int64_t kGlanceMs = 250;

union Message {
    wire::Header header;
    wire::LeaseGrant grant;
    wire::LeaseReclaim reclaim;
};

// One message of tierd's; 0: none is there yet.
long receive(int socket, Message& into) {
    long got =
        sys::call(SYS_recvfrom, socket, &into, sizeof into, static_cast<int>(MSG_DONTWAIT), nullptr, nullptr);
    if (got == -EAGAIN || got == -EINTR) return 0;
    if (got <= 0) return got == 0 ? -EPIPE : got;
    bool sound = got >= static_cast<long>(sizeof into.header) && into.header.magic == wire::kMagic &&
                 into.header.version == wire::kVersion &&
                 into.header.size_bytes == static_cast<uint64_t>(got);
    return sound ? got : -EPROTO;
}

}  // namespace

bool Lease::may_try() const {
    return !is_live() && sys::now_ns() >= next_try_ns_;
}

bool Lease::start(const unsigned char* uuid, uint64_t total_bytes) {
    if (is_live()) return true;
    if (!may_try() || !state().owns_address_space()) return false;
    next_try_ns_ = sys::now_ns() + kRetryNs;
    long fd = connect_to_tierd();
    if (sys::failed(fd)) return false;
    channel_ = OwnedFd::own(static_cast<int>(fd));
    ::memcpy(uuid_, uuid, sizeof uuid_);
    total_bytes_ = total_bytes;
    if (handshake() && start_thread()) {
        log_info() << "tierd shares the GPU out: " << limit_bytes_ << " bytes";
        return true;
    }
    channel_.close();
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    return false;
}

bool Lease::handshake() {
    sequence_ = shrunk_sequence_ = 0;  // another tierd has heard nothing yet
    auto hello = make_message<wire::LeaseHello>(wire::Kind::lease_hello, ++sequence_);
    hello.pid = static_cast<uint32_t>(sys::call(SYS_getpid));
    ::memcpy(hello.gpu, uuid_, sizeof hello.gpu);
    hello.total_bytes = total_bytes_;
    if (send_message(channel_.fd, &hello, sizeof hello, nullptr, 0) != 0) return false;
    uint64_t give_up_ns = sys::now_ns() + kReplyDeadlineMs * 1'000'000u;
    while (sys::now_ns() < give_up_ns) {
        pollfd wait{channel_.fd, POLLIN, 0};
        if (sys::poll_one(&wait, kLookMs) <= 0) continue;
        Message message{};
        long got = receive(channel_.fd, message);
        if (got == 0) continue;
        bool granted = got == static_cast<long>(sizeof message.grant) &&
                       message.header.kind == wire::Kind::lease_grant && message.grant.status == 0;
        if (!granted) return false;
        apply(message.grant);
        __atomic_store_n(&live_, 1u, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

bool Lease::start_thread() {
    pthread_attr_t attributes;
    pthread_t thread;
    if (::pthread_attr_init(&attributes) != 0) return false;
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // It calls the driver, whose frames are its own affair.
    ::pthread_attr_setstacksize(&attributes, 1u << 20);
    SignalMask before = block_signals();
    int error = ::pthread_create(&thread, &attributes, &Lease::run, this);
    restore_signals(before);
    ::pthread_attr_destroy(&attributes);
    return error == 0;
}

void* Lease::run(void* lease) {
    sys::call(SYS_prctl, PR_SET_NAME, "tierd-lease");
    static_cast<Lease*>(lease)->serve();
    return nullptr;
}

void Lease::serve() {
    while (true) {
        if (!is_live()) run_without_tierd();
        // This thread alone changes the channel, so it may look at it without the lock.
        pollfd wait{channel_.fd, POLLIN, 0};
        long ready = sys::poll_one(&wait, kGlanceMs);
        if (!is_live()) continue;
        is_idle();  // looked at now and then, so that who has idled for long is known to when an order comes
        bool ours = channel_.still_ours();  // the engine may have closed what it does not know
        bool fine = ours && (ready <= 0 || read_message());
        LockGuard guard(lock_);
        if (fine && is_live() && sys::now_ns() >= next_report_ns_) {
            report_residency();
            next_report_ns_ = sys::now_ns() + kReportNs;
        }
        if (fine) continue;
        if (is_live()) disconnect(ours ? "tierd has gone" : "the process closed the channel");
    }
}

void Lease::run_without_tierd() {
    constexpr long kPauseNs = 50'000'000;
    {
        LockGuard guard(lock_);
        channel_.close();
    }
    while (!is_live()) {
        timespec pause{0, kPauseNs};
        sys::call(SYS_nanosleep, &pause, nullptr);
        LockGuard guard(lock_);
        if (!gpu_.is_set_up()) continue;
        gpu_.residency.yield(is_idle());
        if (sys::now_ns() >= next_try_ns_ && reconnect()) log_info() << "tierd shares the GPU out again";
    }
}

// A new tierd knows nothing of what we hold, so we come without anything. Pinned memory can't be left behind.
bool Lease::reconnect() {
    next_try_ns_ = sys::now_ns() + kRetryNs / 5;
    if (gpu_.residency.pinned_chunks() != 0) return false;
    long fd = connect_to_tierd();
    if (sys::failed(fd)) return false;
    channel_ = OwnedFd::own(static_cast<int>(fd));
    bool greeted = handshake();
    // One that hangs is not asked at every turn: nobody gets memory while it is.
    if (!greeted) next_try_ns_ = sys::now_ns() + kRetryNs;
    if (greeted) gpu_.residency.shrink_to(0);
    if (greeted && gpu_.range.resident_chunks() == 0) {
        lost_ = false;
        requested_bytes_ = 0;
        reported_changes_ = 0;
        return true;
    }
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    channel_.close();
    return false;
}

void Lease::apply(const wire::LeaseGrant& grant) {
    limit_bytes_ = grant.limit_bytes;
    overcommit_bytes_ = grant.overcommit_bytes;
    others_bytes_ = grant.others_bytes;
    // Sent before tierd heard what we gave back: it may have leased that to somebody by now.
    bool crossed = static_cast<int32_t>(grant.header.sequence - shrunk_sequence_) < 0;
    if (!crossed) __atomic_store_n(&granted_bytes_, grant.lease_bytes, __ATOMIC_RELAXED);
}

bool Lease::read_message() {
    Message message{};
    long got = receive(channel_.fd, message);
    if (got == 0) return true;
    if (got == static_cast<long>(sizeof message.grant) && message.header.kind == wire::Kind::lease_grant) {
        LockGuard guard(lock_);
        apply(message.grant);
        wake_waiters();
        return true;
    }
    if (got == static_cast<long>(sizeof message.reclaim) &&
        message.header.kind == wire::Kind::lease_reclaim) {
        shrink(message.reclaim.lease_bytes, message.reclaim.not_before_ns);
        return true;
    }
    return false;
}

// Grows no more calls for a while: whatever was launched is behind us or soon will be.
bool Lease::is_idle() {
    uint64_t calls = gate_.calls(), now_ns = sys::now_ns();
    if (calls != calls_seen_) {
        calls_seen_ = calls;
        calls_seen_ns_ = now_ns;
    }
    return now_ns - calls_seen_ns_ >= kIdleNs;
}

void Lease::shrink(uint64_t target_bytes, uint64_t not_before_ns) {
    uint64_t heard_ns = sys::now_ns();
    while (sys::now_ns() < not_before_ns && !is_idle()) {
        timespec pause{0, kLookMs * 1'000'000};
        sys::call(SYS_nanosleep, &pause, nullptr);
    }
    auto answer = make_message<wire::LeaseShrunk>(wire::Kind::lease_shrunk, 0);
    LockGuard guard(lock_);
    gpu_.counters.reclaims++;
    gpu_.counters.patience_ns += sys::now_ns() - heard_ns;
    gpu_.residency.shrink_to(static_cast<uint32_t>(target_bytes / gpu_.range.chunk_bytes()));
    uint64_t left = gpu_.range.bytes_of(gpu_.range.resident_chunks());
    uint64_t lease = left > target_bytes ? left : target_bytes;
    if (lease < granted_bytes()) __atomic_store_n(&granted_bytes_, lease, __ATOMIC_RELAXED);
    answer.lease_bytes = granted_bytes();
    answer.pinned_bytes = gpu_.range.bytes_of(gpu_.residency.pinned_chunks());
    answer.header.sequence = shrunk_sequence_ = ++sequence_;
    requested_bytes_ = 0;
    if (send_message(channel_.fd, &answer, sizeof answer, nullptr, 0) != 0)
        log_info() << "tierd does not listen";
    wake_waiters();
}

void Lease::report_residency() {
    const GpuCounters& did = gpu_.counters;
    uint64_t changes = did.chunks_filled + did.chunks_dropped + did.chunks_saved + did.chunks_freed;
    if (changes == reported_changes_ || !gpu_.is_set_up()) return;
    if (send_residency(channel_.fd, &sequence_, gpu_.range, sources_)) reported_changes_ = changes;
}

void Lease::wake_waiters() {
    __atomic_fetch_add(&updates_, 1u, __ATOMIC_RELEASE);
    sys::call(SYS_futex, &updates_, 129 /* FUTEX_WAKE_PRIVATE */, INT32_MAX, nullptr, nullptr, 0);
}

// The lease stays what it was, so that the processes that tierd leaves behind don't take the GPU from each other.
void Lease::disconnect(const char* why) {
    log_info() << "no more than " << granted_bytes() << " bytes of the GPU from here on: " << why;
    others_bytes_ = 0;
    lost_ = true;
    next_try_ns_ = sys::now_ns() + kRetryNs / 5;
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    wake_waiters();
}

bool Lease::query() {
    wire::Header message{wire::kMagic, wire::kVersion, wire::Kind::lease_query, sizeof message, ++sequence_};
    return send_message(channel_.fd, &message, sizeof message, nullptr, 0) == 0;
}

// Until tierd has said something since `seen`, without the GPU's lock. A tierd that answers no question for a while
// hangs: then there is none.
void Lease::wait_for_update(uint32_t seen) {
    uint64_t began_ns = sys::now_ns();
    bool asked = false, hangs = false;
    while (is_live() && __atomic_load_n(&updates_, __ATOMIC_ACQUIRE) == seen && !hangs) {
        lock_.unlock();
        timespec look{0, 100'000'000};
        sys::call(SYS_futex, &updates_, 128 /* FUTEX_WAIT_PRIVATE */, seen, &look, nullptr, 0);
        lock_.lock();
        uint64_t waited_ms = (sys::now_ns() - began_ns) / 1'000'000u;
        if (!asked && waited_ms > kAskAfterMs && is_live()) asked = query();
        hangs = waited_ms > kAskAfterMs + kReplyDeadlineMs;
    }
    if (hangs && is_live() && __atomic_load_n(&updates_, __ATOMIC_ACQUIRE) == seen) disconnect("tierd hangs");
}

uint64_t Lease::others_bytes() {
    if (!is_live()) return 0;
    uint32_t seen = __atomic_load_n(&updates_, __ATOMIC_ACQUIRE);
    query();
    wait_for_update(seen);
    return others_bytes_;
}

bool Lease::wait_for(uint64_t required_bytes, uint64_t requested_bytes) {
    if (!is_live()) return false;
    uint64_t shared = requested_bytes < limit_bytes_ ? requested_bytes : limit_bytes_;
    uint64_t must = required_bytes < overcommit_bytes_ ? required_bytes : overcommit_bytes_;
    uint64_t most = must > shared ? must : shared;
    if (granted_bytes() >= most) return false;
    uint32_t seen = __atomic_load_n(&updates_, __ATOMIC_ACQUIRE);
    auto message = make_message<wire::LeaseGrow>(wire::Kind::lease_grow, ++sequence_);
    message.required_bytes = must;
    message.requested_bytes = most;
    if (requested_bytes_ == most || send_message(channel_.fd, &message, sizeof message, nullptr, 0) == 0)
        requested_bytes_ = most;
    wait_for_update(seen);
    if (granted_bytes() >= requested_bytes_) requested_bytes_ = 0;
    return true;
}

void Lease::reset_in_child() {
    channel_.close();
    live_ = 0;
    granted_bytes_ = UINT64_MAX;
}

}  // namespace tierd::shim::cuda
