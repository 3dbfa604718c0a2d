#include "cuda_shim/host/session.h"

#include <string.h>
#include <sys/un.h>

#include "cuda_shim/host/log.h"
#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/userfault.h"
#include "cuda_shim/host/watchdog.h"

namespace tierd::shim {

static constexpr uint64_t kReplyDeadlineMs = 500;
// An attach reads the file's header, which may be slow for the engine's own read just as well; a tierd that
// hangs is seen by its heartbeat, not by this.
static constexpr uint64_t kAttachDeadlineMs = 2000;
static constexpr uint64_t kRetryNs = 5'000'000'000u;

uint64_t Session::silence_ns() const {
    uint64_t beat_ns = __atomic_load_n(&heartbeat->beat_ns, __ATOMIC_RELAXED);
    uint64_t now_ns = sys::now_ns();
    return now_ns > beat_ns ? now_ns - beat_ns : 0;
}

void break_off(const char* why) {
    Session& session = state().session;
    SessionStatus live = SessionStatus::live;
    if (!__atomic_compare_exchange_n(&session.status, &live, SessionStatus::broken, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return;
    log_info() << "back to the kernel's mappings: " << why;
    if (session.request.still_ours()) sys::shutdown(session.request.fd, SHUT_RDWR);
    // Its other direction stays open: when it closes, tierd maps nothing here any more.
    if (session.command_channel.still_ours()) sys::shutdown(session.command_channel.fd, SHUT_WR);
}

void close_session() {
    Session& session = state().session;
    session.request.close();
    session.command_channel.close();
    if (is_userfaultfd(session.uffd.fd)) session.uffd.close();
    session.uffd = {};
    session.uffd_sent = false;
    if (session.heartbeat != nullptr) sys::munmap(reinterpret_cast<uint64_t>(session.heartbeat), kPageBytes);
    session.heartbeat = nullptr;
    __atomic_store_n(&session.status, SessionStatus::none, __ATOMIC_RELEASE);
}

// Waits for the reply to `sequence` on the request channel and checks it. Replies carry at most `room`
// descriptors.
static long await_reply(uint32_t sequence, uint64_t deadline_ms, wire::Reply& reply, int* fds, uint32_t room,
                        uint32_t* count) {
    Session& session = state().session;
    uint64_t give_up_ns = sys::now_ns() + deadline_ms * 1'000'000u;
    while (true) {
        uint64_t now_ns = sys::now_ns();
        if (now_ns >= give_up_ns) return -ETIMEDOUT;
        pollfd wait{session.request.fd, POLLIN, 0};
        long ready =
            sys::poll_one(&wait, static_cast<int64_t>((give_up_ns - now_ns + 999'999u) / 1'000'000u));
        if (ready < 0 && ready != -EINTR) return ready;
        if (ready <= 0) continue;
        long got = receive_message(session.request.fd, &reply, sizeof reply, fds, room, count);
        if (got == -EAGAIN) continue;
        if (got < 0) return got;
        if (got == 0) return -EPIPE;
        if (reply.header.kind == wire::Kind::reply && reply.header.sequence == sequence) return 0;
        for (uint32_t i = 0; i < *count; i++) sys::close(fds[i]);
        return -EPROTO;
    }
}

// One request and its reply. Returns the reply's status; what goes wrong with the conversation itself ends
// the session.
template <class Message>
static long ask(Message& message, const int* fds, uint32_t count, wire::Reply& reply,
                int* reply_fd = nullptr) {
    Session& session = state().session;
    if (session.now() != SessionStatus::live) return -ENOTCONN;
    if (!session.request.still_ours()) {
        break_off("the process closed the connection");
        return -EBADF;
    }
    message.header.sequence = ++session.sequence;
    uint32_t received = 0;
    uint64_t deadline_ms = message.header.kind == wire::Kind::attach ? kAttachDeadlineMs : kReplyDeadlineMs;
    long result = send_message(session.request.fd, &message, sizeof message, fds, count);
    if (result == 0)
        result = await_reply(session.sequence, deadline_ms, reply, reply_fd, reply_fd == nullptr ? 0 : 1,
                             &received);
    if (result != 0) {
        break_off(result == -ETIMEDOUT ? "tierd does not answer" : "the connection to tierd failed");
        return result;
    }
    if (reply_fd != nullptr && received == 0) *reply_fd = -1;
    return reply.status > 0 ? -EPROTO : reply.status;
}

long ask_attach(int weight_fd, const char* path, bool writable, bool shared, wire::Reply& reply,
                int* arena_fd) {
    auto message = make_message<wire::Attach>(wire::Kind::attach, 0);
    message.writable = writable;
    message.shared = shared;
    ::strncpy(message.path, path, sizeof message.path - 1);
    long status = ask(message, &weight_fd, 1, reply, arena_fd);
    if (status != 0) return status;
    bool sound = *arena_fd >= 0 && (reply.page_bytes == kPageBytes || reply.page_bytes == kHugePageBytes) &&
                 reply.arena_bytes >= reply.size_bytes;
    if (sound) return 0;
    break_off("tierd's answer makes no sense");
    if (*arena_fd >= 0) sys::close(*arena_fd);
    return -EPROTO;
}

long ask_map(uint64_t file, uint64_t address, uint64_t offset_bytes, uint64_t length_bytes) {
    Session& session = state().session;
    auto message = make_message<wire::Map>(wire::Kind::map, 0);
    message.file = file;
    message.address = address;
    message.offset_bytes = offset_bytes;
    message.length_bytes = length_bytes;
    wire::Reply reply{};
    long status = ask(message, &session.uffd.fd, session.uffd_sent ? 0 : 1, reply);
    if (status == 0) session.uffd_sent = true;
    return status;
}

long tell_unmap(uint64_t address, uint64_t length_bytes) {
    auto message = make_message<wire::Unmap>(wire::Kind::unmap, 0);
    message.address = address;
    message.length_bytes = length_bytes;
    wire::Reply reply{};
    return ask(message, nullptr, 0, reply);
}

long tell_advice(uint64_t address, uint64_t length_bytes, wire::Advice advice) {
    auto message = make_message<wire::Advise>(wire::Kind::advise, 0);
    message.address = address;
    message.length_bytes = length_bytes;
    message.advice = advice;
    wire::Reply reply{};
    return ask(message, nullptr, 0, reply);
}

long connect_to_tierd() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ::memcpy(address.sun_path, state().config.socket, sizeof address.sun_path);
    long fd = sys::call(SYS_socket, static_cast<int>(AF_UNIX),
                        static_cast<int>(SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK), 0);
    if (sys::failed(fd)) return fd;
    long connected = sys::call(SYS_connect, static_cast<int>(fd), &address, sizeof address);
    if (connected == 0) return fd;
    sys::close(static_cast<int>(fd));
    return connected;
}

static long connect_socket() {
    long fd = connect_to_tierd();
    if (sys::failed(fd)) return fd;
    state().session.request = OwnedFd::own(static_cast<int>(fd));
    return 0;
}

// Takes what Hello's answer brought: heartbeat page, command channel, perhaps the device. Owns `fds` from here
// on.
static long apply_hello(const wire::Reply& reply, const int* fds, uint32_t count) {
    Session& session = state().session;
    long page = count > 0 ? sys::mmap(0, kPageBytes, PROT_READ, MAP_SHARED, fds[0], 0) : -EPROTO;
    if (count > 0) sys::close(fds[0]);
    if (!sys::failed(page)) session.heartbeat = reinterpret_cast<const wire::Heartbeat*>(page);
    if (count > 1) session.command_channel = OwnedFd::own(fds[1]);
    int device = count > 2 ? fds[2] : -1;
    bool has_device = (reply.flags & wire::kReplyHasUserfaultfdDevice) != 0 && device >= 0;
    long uffd = -EPERM;
    if (has_device || (reply.flags & wire::kReplyUserModeFaults) != 0)
        uffd = make_userfaultfd(has_device ? device : -1, &session.can_protect);
    if (device >= 0) sys::close(device);
    if (!sys::failed(uffd)) session.uffd = OwnedFd::own(static_cast<int>(uffd));
    if (reply.deadline_ms > 0) session.deadline_ms = reply.deadline_ms;
    if (session.heartbeat == nullptr || session.command_channel.fd < 0) return -EPROTO;
    return session.uffd.fd < 0 ? uffd : 0;
}

static long handshake() {
    Session& session = state().session;
    auto hello = make_message<wire::Hello>(wire::Kind::hello, ++session.sequence);
    hello.pid = static_cast<uint32_t>(sys::call(SYS_getpid));
    hello.abilities = wire::kAbilityArmHint;
    long sent = send_message(session.request.fd, &hello, sizeof hello, nullptr, 0);
    if (sent != 0) return sent;
    wire::Reply reply{};
    int fds[3] = {-1, -1, -1};
    uint32_t count = 0;
    long got = await_reply(session.sequence, kReplyDeadlineMs, reply, fds, 3, &count);
    if (got != 0) return got;
    long configured = apply_hello(reply, fds, count);
    return reply.status != 0 ? reply.status : configured;
}

bool ensure_session() {
    Session& session = state().session;
    if (session.now() != SessionStatus::none) return session.now() == SessionStatus::live;
    uint64_t now_ns = sys::now_ns();
    if (session.given_up || now_ns < session.next_try_ns) return false;
    session.next_try_ns = now_ns + kRetryNs;
    if (!prepare_state()) return false;
    long result = connect_socket();
    if (result == 0) result = handshake();
    if (result == 0) {
        __atomic_store_n(&session.status, SessionStatus::live, __ATOMIC_RELEASE);
        result = start_watchdog();
    }
    if (result == 0) {
        log_info() << "connected to " << state().config.socket;
        return true;
    }
    session.given_up = result == -ETIMEDOUT;
    log_info() << "no tierd at " << state().config.socket << ": error " << -result
               << (session.given_up ? "; it is not asked again" : "");
    close_session();
    return false;
}

}  // namespace tierd::shim
