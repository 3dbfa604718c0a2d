#include "lib/session/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "lib/base/worker.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

// What every session's thread needs; outlives the server where a thread is stuck in a hanging file system.
struct Shared {
    SessionHandler& handler;
    ServerConfig config;
    gid_t group = static_cast<gid_t>(-1);
    bool has_group = false;
    Fd userfaultfd_device;  // empty: the kernel or our rights don't give it
    Fd stop_event;          // readable from stop() on

    std::mutex mutex;  // guards the counts below
    std::condition_variable changed;
    uint32_t sessions = 0;
    std::map<uid_t, uint32_t> sessions_of;
};

bool is_member(int socket, gid_t group, gid_t primary) {
    if (primary == group) return true;
    std::array<gid_t, 256> groups{};
    socklen_t length = sizeof groups;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) return false;
    auto end = groups.begin() + length / sizeof(gid_t);
    return std::find(groups.begin(), end, group) != end;
}

wire::Reply reply_to(const wire::Header& request, int status) {
    auto reply = make_message<wire::Reply>(wire::Kind::reply, request.sequence);
    reply.status = status;
    return reply;
}

int status_of(const Error& error) {
    if (error.err != 0) return -error.err;
    switch (error.code) {
        case Code::denied:
            return -EACCES;
        case Code::busy:
            return -EBUSY;
        case Code::not_found:
            return -ENOENT;
        case Code::no_space:
            return -ENOSPC;
        default:
            return -EINVAL;
    }
}

Denial denial_of(const Error& error) {
    switch (error.code) {
        case Code::denied:
        case Code::bad_input:
            return Denial::descriptor;
        case Code::no_space:
            return Denial::no_space;
        default:
            return Denial::other;
    }
}

// One client's conversation, on a thread of its own.
class Conversation {
  public:
    Conversation(std::shared_ptr<Shared> shared, Fd socket, Peer peer)
        : shared_(std::move(shared)), socket_(std::move(socket)), peer_(peer) {}

    void run() {
        auto opened = greet();
        if (opened && !socket_) return;  // a lease channel, which has its own home
        if (!opened) {
            spdlog::debug("session of pid {} not opened: {}", peer_.pid, opened.error().text());
            return;
        }
        while (serve_one()) {
        }
        shared_->handler.close_session(session_);
    }

  private:
    // Waits for the Hello, at most the deadline: a connection that says nothing must not hold a thread.
    Result<void> greet() {
        pollfd wait[] = {{socket_.get(), POLLIN, 0}, {shared_->stop_event.get(), POLLIN, 0}};
        if (::poll(wait, 2, 2000) <= 0 || wait[1].revents != 0)
            return fail(Code::gone, "greet", {}, "no Hello came");
        auto packet = receive_packet(socket_.get());
        if (!packet) return std::unexpected(packet.error());
        if (packet->header().kind == wire::Kind::lease_hello) return hand_over(*packet);
        auto hello = packet->as<wire::Hello>();
        if (!hello || hello->header.kind != wire::Kind::hello)
            return fail(Code::bad_input, "greet", {}, "no Hello came");
        peer_.shows_touches = (hello->abilities & wire::kAbilityShowTouch) != 0;
        return answer_hello(hello->header);
    }

    bool is_trusted() const {
        return peer_.uid == 0 || peer_.uid == ::geteuid() ||
               (shared_->has_group && is_member(socket_.get(), shared_->group, peer_.gid));
    }

    // A lease is a claim on a GPU that all share: for the same users as sessions.
    Result<void> hand_over(const Packet& packet) {
        auto hello = packet.as<wire::LeaseHello>();
        if (!hello) return std::unexpected(hello.error());
        if (!is_trusted() && !shared_->config.user_mode_faults) {
            auto refusal = make_message<wire::LeaseGrant>(wire::Kind::lease_grant, hello->header.sequence);
            refusal.status = -EPERM;
            (void)send_message(socket_.get(), refusal);
            shared_->handler.refused(Denial::not_in_group);
            return fail(Code::denied, "lease a GPU to", fmt::format("uid {}", peer_.uid),
                        "add the user to the group of [session] group");
        }
        LeaseRequest request{.total_bytes = hello->total_bytes};
        std::copy(std::begin(hello->gpu), std::end(hello->gpu), request.gpu.begin());
        shared_->handler.lease(std::move(socket_), peer_, request);
        return {};
    }

    Result<void> answer_hello(const wire::Header& request) {
        int pair[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
            return os_error("make notice channel");
        notice_ = Fd(pair[0]);
        Fd theirs(pair[1]);
        bool trusted = is_trusted();
        auto reply = reply_to(request, 0);
        std::array<int, 3> fds = {shared_->handler.heartbeat_fd(), theirs.get(),
                                  shared_->userfaultfd_device.get()};
        size_t count = 2;
        if (trusted && shared_->userfaultfd_device) {
            reply.flags |= wire::kReplyHasUserfaultfdDevice;
            count = 3;
        } else if (shared_->config.user_mode_faults) {
            reply.flags |= wire::kReplyUserModeFaults;
            peer_.user_mode_faults = true;
        } else {
            reply.status = -EPERM;
            (void)send_message(socket_.get(), reply);
            shared_->handler.refused(Denial::not_in_group);
            return fail(Code::denied, "serve", fmt::format("uid {}", peer_.uid),
                        "add the user to the group of [session] group, or set user_mode_faults");
        }
        auto ours = duplicate(notice_);
        if (!ours) return std::unexpected(ours.error());
        auto session = shared_->handler.open_session(peer_, std::move(*ours));
        if (!session) {
            (void)send_message(socket_.get(), reply_to(request, status_of(session.error())));
            return std::unexpected(session.error());
        }
        session_ = *session;
        reply.session = session_;
        reply.deadline_ms = shared_->config.deadline_ms;
        auto sent = send_message(socket_.get(), reply, std::span(fds).first(count));
        if (!sent) shared_->handler.close_session(session_);
        return sent;
    }

    // Serves one event; false ends the session.
    bool serve_one() {
        pollfd wait[] = {
            {socket_.get(), POLLIN, 0}, {notice_.get(), POLLIN, 0}, {shared_->stop_event.get(), POLLIN, 0}};
        if (::poll(wait, 3, -1) < 0) return errno == EINTR;
        if (wait[2].revents != 0) return false;
        if (wait[1].revents != 0 && !take_acknowledgement()) return false;
        if (wait[0].revents == 0) return true;
        auto packet = receive_packet(socket_.get());
        if (!packet) {
            if (packet.error().code == Code::gone) return false;
            spdlog::info("session {} ended: {}", session_, packet.error().text());
            return broken();
        }
        return answer(*packet);
    }

    bool take_acknowledgement() {
        auto packet = receive_packet(notice_.get());
        if (!packet) return packet.error().code == Code::busy;
        auto message = packet->as<wire::FallenBack>();
        if (!message || message->header.kind != wire::Kind::fallen_back) return false;
        shared_->handler.fallen_back(session_, message->header.sequence, message->status);
        return true;
    }

    bool answer(Packet& packet) {
        switch (packet.header().kind) {
            case wire::Kind::attach:
                return answer_attach(packet);
            case wire::Kind::map:
                return answer_map(packet);
            case wire::Kind::unmap: {
                auto message = packet.as<wire::Unmap>();
                if (!message) return broken();
                return acknowledge(packet.header(),
                                   shared_->handler.unmap(session_, message->address, message->length_bytes));
            }
            case wire::Kind::advise: {
                auto message = packet.as<wire::Advise>();
                if (!message) return broken();
                if (message->advice != wire::Advice::will_need) return acknowledge(packet.header(), {});
                return acknowledge(packet.header(), shared_->handler.will_need(session_, message->address,
                                                                               message->length_bytes));
            }
            default:
                return broken();
        }
    }

    // A message that the protocol does not have ends the session.
    bool broken() {
        shared_->handler.refused(Denial::broken_rules);
        return false;
    }

    bool acknowledge(const wire::Header& request, const Result<void>& result) {
        return send_message(socket_.get(), reply_to(request, result ? 0 : status_of(result.error())))
            .has_value();
    }

    bool answer_attach(Packet& packet) {
        auto message = packet.as<wire::Attach>();
        if (!message || packet.fds.size() != 1) return broken();
        message->path[sizeof message->path - 1] = '\0';
        auto answer = shared_->handler.attach(
            session_, std::move(packet.fds[0]),
            {.path = message->path, .writable = message->writable != 0, .uid = peer_.uid});
        if (!answer) {
            spdlog::info("pid {} not served {}: {}", peer_.pid,
                         fmt::format("{:?}", std::string_view(message->path)), answer.error().text());
            shared_->handler.refused(denial_of(answer.error()));
            return send_message(socket_.get(), reply_to(packet.header(), status_of(answer.error())))
                .has_value();
        }
        auto reply = reply_to(packet.header(), 0);
        reply.file = answer->file;
        reply.size_bytes = answer->size_bytes;
        reply.extent_bytes = answer->extent_bytes;
        reply.page_bytes = answer->page_bytes;
        reply.arena_bytes = answer->arena_bytes;
        int arena = answer->arena.get();
        return send_message(socket_.get(), reply, std::span(&arena, 1)).has_value();
    }

    bool answer_map(Packet& packet) {
        auto message = packet.as<wire::Map>();
        if (!message || packet.fds.size() > 1) return broken();
        Fd userfaultfd = packet.fds.empty() ? Fd() : std::move(packet.fds[0]);
        return acknowledge(packet.header(), shared_->handler.map(session_,
                                                                 {.file = message->file,
                                                                  .address = message->address,
                                                                  .offset_bytes = message->offset_bytes,
                                                                  .length_bytes = message->length_bytes},
                                                                 std::move(userfaultfd)));
    }

    std::shared_ptr<Shared> shared_;
    Fd socket_;
    Fd notice_;
    Peer peer_;
    uint64_t session_ = 0;
};

class SocketServer final : public Server {
  public:
    SocketServer(std::shared_ptr<Shared> shared, Fd listener)
        : shared_(std::move(shared)), listener_(std::move(listener)) {
        acceptor_ = std::thread([this] { accept_loop(); });
    }
    ~SocketServer() override { stop(); }

    void stop() override {
        if (!acceptor_.joinable()) return;
        uint64_t one = 1;
        (void)!::write(shared_->stop_event.get(), &one, sizeof one);
        acceptor_.join();
        std::unique_lock lock(shared_->mutex);
        shared_->changed.wait_for(lock, std::chrono::seconds(1), [this] { return shared_->sessions == 0; });
        if (!shared_->config.inherited_socket && !shared_->config.socket_path.empty())
            ::unlink(shared_->config.socket_path.c_str());
    }

    std::vector<std::string> notes() const override {
        std::vector<std::string> lines;
        if (!shared_->userfaultfd_device)
            lines.push_back(
                "no /dev/userfaultfd: run tierd as root or give it read access; clients can't be served " +
                std::string(shared_->config.user_mode_faults
                                ? "when system calls read their weights untouched"
                                : "without user_mode_faults"));
        return lines;
    }

  private:
    void accept_loop() {
        name_this_thread("tierd-accept");
        while (true) {
            pollfd wait[] = {{listener_.get(), POLLIN, 0}, {shared_->stop_event.get(), POLLIN, 0}};
            if (::poll(wait, 2, -1) < 0 && errno != EINTR) return;
            if (wait[1].revents != 0) return;
            if (wait[0].revents == 0) continue;
            Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (socket) {
                welcome(std::move(socket));
            } else if (errno == EMFILE || errno == ENFILE) {
                // Out of descriptors: let sessions end instead of spinning on a connection that can't be
                // taken.
                ::poll(&wait[1], 1, 100);
            }
        }
    }

    // Starts the session's thread, unless there are too many of them.
    void welcome(Fd socket) {
        ucred credentials{};
        socklen_t length = sizeof credentials;
        if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return;
        Peer peer{.pid = credentials.pid,
                  .uid = credentials.uid,
                  .gid = credentials.gid,
                  .user_mode_faults = false};
        {
            std::lock_guard lock(shared_->mutex);
            uint32_t limit = shared_->config.max_sessions;
            uint32_t own_limit = peer.uid == 0 ? limit : std::max(1u, limit / 2);
            if (shared_->sessions >= limit || shared_->sessions_of[peer.uid] >= own_limit)
                return shared_->handler.refused(Denial::too_many);
            shared_->sessions++;
            shared_->sessions_of[peer.uid]++;
        }
        auto converse = [shared = shared_, peer](Fd connected) {
            name_this_thread(fmt::format("session-{}", peer.pid));
            Conversation(shared, std::move(connected), peer).run();
            leave(*shared, peer.uid);
        };
        try {
            std::thread(converse, std::move(socket)).detach();
        } catch (const std::system_error& error) {
            spdlog::warn("no thread for a session: {}", error.what());
            leave(*shared_, peer.uid);
        }
    }

    static void leave(Shared& shared, uid_t uid) {
        std::lock_guard lock(shared.mutex);
        shared.sessions--;
        if (--shared.sessions_of[uid] == 0) shared.sessions_of.erase(uid);
        shared.changed.notify_all();
    }

    std::shared_ptr<Shared> shared_;
    Fd listener_;
    std::thread acceptor_;
};

Result<Fd> listen_on(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(Code::bad_config, "listen on", path, "choose a path shorter than 108 characters");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return os_error("make socket");
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    // A socket file that nobody listens on is left over from a tierd that was killed; a living one is not
    // ours to take.
    if (::connect(socket.get(), where, sizeof address) == 0)
        return fail(Code::busy, "listen on", path,
                    "another tierd is running there; stop it or choose another --socket");
    ::unlink(path.c_str());
    Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return os_error("make socket");
    if (::bind(listener.get(), where, sizeof address) != 0) return os_error("bind", path);
    if (::chmod(path.c_str(), 0666) != 0) return os_error("open to all users", path);
    if (::listen(listener.get(), 1024) != 0) return os_error("listen on", path);
    return listener;
}

Result<void> find_group(Shared& shared) {
    if (shared.config.group.empty()) return {};
    std::array<char, 16384> buffer{};
    group record{};
    group* found = nullptr;
    ::getgrnam_r(shared.config.group.c_str(), &record, buffer.data(), buffer.size(), &found);
    if (found == nullptr)
        return fail(Code::bad_config, "find group", shared.config.group,
                    "create it, or change [session] group");
    shared.group = found->gr_gid;
    shared.has_group = true;
    return {};
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerConfig config, SessionHandler& handler) {
    auto shared = std::make_shared<Shared>(handler, std::move(config));
    if (auto found = find_group(*shared); !found) return std::unexpected(found.error());
    auto stop_event = make_eventfd();
    if (!stop_event) return std::unexpected(stop_event.error());
    shared->stop_event = std::move(*stop_event);
    if (auto device = open_file("/dev/userfaultfd", O_RDWR)) shared->userfaultfd_device = std::move(*device);
    Fd listener;
    if (shared->config.inherited_socket) {
        auto copy = duplicate(shared->config.inherited_socket);
        if (!copy) return std::unexpected(copy.error());
        listener = std::move(*copy);
    } else {
        auto made = listen_on(shared->config.socket_path);
        if (!made) return std::unexpected(made.error());
        listener = std::move(*made);
    }
    return std::make_unique<SocketServer>(std::move(shared), std::move(listener));
}

}  // namespace tierd
