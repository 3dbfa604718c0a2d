#include "cuda_shim/cuda/lease.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

#include "cuda_shim/cuda/shim.h"
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
constexpr uint64_t kShowNs = 1'000'000'000u;
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

bool Lease::start(const unsigned char* card, uint64_t total_bytes) {
    if (is_live()) return true;
    if (!may_try() || !state().owns_address_space()) return false;
    next_try_ns_ = sys::now_ns() + kRetryNs;
    long fd = connect_to_tierd();
    if (sys::failed(fd)) return false;
    channel_ = OwnedFd::own(static_cast<int>(fd));
    ::memcpy(card_, card, sizeof card_);
    total_bytes_ = total_bytes;
    if (greet() && start_thread()) {
        log_info() << "tierd shares the card out: " << most_bytes_ << " bytes";
        return true;
    }
    channel_.close();
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    return false;
}

bool Lease::greet() {
    sequence_ = came_down_ = 0;  // another tierd has heard nothing yet
    auto hello = make_message<wire::LeaseHello>(wire::Kind::lease_hello, ++sequence_);
    hello.pid = static_cast<uint32_t>(sys::call(SYS_getpid));
    ::memcpy(hello.card, card_, sizeof hello.card);
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
        hear(message.grant);
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
        if (!is_live()) go_on_alone();
        // This thread alone changes the channel, so it may look at it without the lock.
        pollfd wait{channel_.fd, POLLIN, 0};
        long ready = sys::poll_one(&wait, kGlanceMs);
        if (!is_live()) continue;
        is_idle();  // looked at now and then, so that who has idled for long is known to when an order comes
        bool ours = channel_.still_ours();  // the engine may have closed what it does not know
        bool fine = ours && (ready <= 0 || read_message());
        Hold hold(shim().lock);
        if (fine && is_live() && sys::now_ns() >= next_show_ns_) {
            show_places();
            next_show_ns_ = sys::now_ns() + kShowNs;
        }
        if (fine) continue;
        if (is_live()) lose(ours ? "tierd has gone" : "the process closed the channel");
    }
}

void Lease::go_on_alone() {
    constexpr long kPauseNs = 50'000'000;
    {
        Hold hold(shim().lock);
        channel_.close();
    }
    while (!is_live()) {
        timespec pause{0, kPauseNs};
        sys::call(SYS_nanosleep, &pause, nullptr);
        Hold hold(shim().lock);
        if (!shim().card.is_set_up()) continue;
        shim().card.give_way(is_idle());
        if (sys::now_ns() >= next_try_ns_ && come_back()) log_info() << "tierd shares the card out again";
    }
}

// A new tierd knows nothing of what we hold, so we come without anything. Pinned memory can't be left behind.
bool Lease::come_back() {
    next_try_ns_ = sys::now_ns() + kRetryNs / 5;
    if (shim().card.pinned_chunks() != 0) return false;
    long fd = connect_to_tierd();
    if (sys::failed(fd)) return false;
    channel_ = OwnedFd::own(static_cast<int>(fd));
    bool greeted = greet();
    // One that hangs is not asked at every turn: nobody gets memory while it is.
    if (!greeted) next_try_ns_ = sys::now_ns() + kRetryNs;
    if (greeted) shim().card.shrink_to(0);
    if (greeted && shim().card.window.resident_chunks() == 0) {
        lost_ = false;
        asked_bytes_ = 0;
        shown_changes_ = 0;
        return true;
    }
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    channel_.close();
    return false;
}

void Lease::hear(const wire::LeaseGrant& grant) {
    most_bytes_ = grant.most_bytes;
    utmost_bytes_ = grant.utmost_bytes;
    others_bytes_ = grant.others_bytes;
    // Sent before tierd heard what we gave back: it may have leased that to somebody by now.
    bool crossed = static_cast<int32_t>(grant.header.sequence - came_down_) < 0;
    if (!crossed) __atomic_store_n(&granted_bytes_, grant.lease_bytes, __ATOMIC_RELAXED);
}

bool Lease::read_message() {
    Message message{};
    long got = receive(channel_.fd, message);
    if (got == 0) return true;
    if (got == static_cast<long>(sizeof message.grant) && message.header.kind == wire::Kind::lease_grant) {
        Hold hold(shim().lock);
        hear(message.grant);
        announce();
        return true;
    }
    if (got == static_cast<long>(sizeof message.reclaim) &&
        message.header.kind == wire::Kind::lease_reclaim) {
        come_down(message.reclaim.lease_bytes, message.reclaim.not_before_ns);
        return true;
    }
    return false;
}

// Grows no more calls for a while: whatever was launched is behind us or soon will be.
bool Lease::is_idle() {
    uint64_t calls = shim().gate.calls(), now_ns = sys::now_ns();
    if (calls != calls_seen_) {
        calls_seen_ = calls;
        calls_seen_ns_ = now_ns;
    }
    return now_ns - calls_seen_ns_ >= kIdleNs;
}

void Lease::come_down(uint64_t target_bytes, uint64_t not_before_ns) {
    uint64_t heard_ns = sys::now_ns();
    while (sys::now_ns() < not_before_ns && !is_idle()) {
        timespec pause{0, kLookMs * 1'000'000};
        sys::call(SYS_nanosleep, &pause, nullptr);
    }
    auto answer = make_message<wire::LeaseHolds>(wire::Kind::lease_holds, 0);
    Hold hold(shim().lock);
    Card& card = shim().card;
    card.counters.reclaims++;
    card.counters.patience_ns += sys::now_ns() - heard_ns;
    card.shrink_to(static_cast<uint32_t>(target_bytes / card.window.chunk_bytes()));
    uint64_t left = card.window.bytes_of(card.window.resident_chunks());
    uint64_t lease = left > target_bytes ? left : target_bytes;
    if (lease < granted_bytes()) __atomic_store_n(&granted_bytes_, lease, __ATOMIC_RELAXED);
    answer.lease_bytes = granted_bytes();
    answer.pinned_bytes = card.window.bytes_of(card.pinned_chunks());
    answer.header.sequence = came_down_ = ++sequence_;
    asked_bytes_ = 0;
    if (send_message(channel_.fd, &answer, sizeof answer, nullptr, 0) != 0)
        log_info() << "tierd does not listen";
    announce();
}

void Lease::announce() {
    __atomic_fetch_add(&words_, 1u, __ATOMIC_RELEASE);
    sys::call(SYS_futex, &words_, 129 /* FUTEX_WAKE_PRIVATE */, INT32_MAX, nullptr, nullptr, 0);
}

// The lease stays what it was, so that the processes that tierd leaves behind don't take the card from each other.
void Lease::lose(const char* why) {
    log_info() << "no more than " << granted_bytes() << " bytes of the card from here on: " << why;
    others_bytes_ = 0;
    lost_ = true;
    next_try_ns_ = sys::now_ns() + kRetryNs / 5;
    __atomic_store_n(&live_, 0u, __ATOMIC_RELEASE);
    announce();
}

bool Lease::ask() {
    wire::Header message{wire::kMagic, wire::kVersion, wire::Kind::lease_ask, sizeof message, ++sequence_};
    return send_message(channel_.fd, &message, sizeof message, nullptr, 0) == 0;
}

// Until tierd has said something since `seen`, without the card's lock. A tierd that answers no question for a while
// hangs: then there is none.
void Lease::wait_for_word(uint32_t seen) {
    uint64_t began_ns = sys::now_ns();
    bool asked = false, hangs = false;
    while (is_live() && __atomic_load_n(&words_, __ATOMIC_ACQUIRE) == seen && !hangs) {
        shim().lock.unlock();
        timespec look{0, 100'000'000};
        sys::call(SYS_futex, &words_, 128 /* FUTEX_WAIT_PRIVATE */, seen, &look, nullptr, 0);
        shim().lock.lock();
        uint64_t waited_ms = (sys::now_ns() - began_ns) / 1'000'000u;
        if (!asked && waited_ms > kAskAfterMs && is_live()) asked = ask();
        hangs = waited_ms > kAskAfterMs + kReplyDeadlineMs;
    }
    if (hangs && is_live() && __atomic_load_n(&words_, __ATOMIC_ACQUIRE) == seen) lose("tierd hangs");
}

uint64_t Lease::others_bytes() {
    if (!is_live()) return 0;
    uint32_t seen = __atomic_load_n(&words_, __ATOMIC_ACQUIRE);
    ask();
    wait_for_word(seen);
    return others_bytes_;
}

bool Lease::wait_for(uint64_t need_bytes, uint64_t want_bytes) {
    if (!is_live()) return false;
    uint64_t shared = want_bytes < most_bytes_ ? want_bytes : most_bytes_;
    uint64_t must = need_bytes < utmost_bytes_ ? need_bytes : utmost_bytes_;
    uint64_t most = must > shared ? must : shared;
    if (granted_bytes() >= most) return false;
    uint32_t seen = __atomic_load_n(&words_, __ATOMIC_ACQUIRE);
    auto message = make_message<wire::LeaseWant>(wire::Kind::lease_want, ++sequence_);
    message.need_bytes = must;
    message.want_bytes = most;
    if (asked_bytes_ == most || send_message(channel_.fd, &message, sizeof message, nullptr, 0) == 0)
        asked_bytes_ = most;
    wait_for_word(seen);
    if (granted_bytes() >= asked_bytes_) asked_bytes_ = 0;
    return true;
}

void Lease::reset_in_child() {
    channel_.close();
    live_ = 0;
    granted_bytes_ = UINT64_MAX;
}

}  // namespace tierd::shim::cuda
