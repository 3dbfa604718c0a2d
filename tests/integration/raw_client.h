// raw_client.h - a client that speaks the protocol by hand, rightly or wrongly, as this user or as another.
//
// Callers:   the test's main thread; a RawClient from one thread at a time.
// Fails:     as a requirement of Boost.Test.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/fd.h"
#include "lib/session/wire.h"
#include "tests/integration/harness.h"

namespace tierd::itest {

// This process acts as nobody while the object lives: rights, /proc and SO_PEERCRED follow.
class AsNobody {
  public:
    AsNobody() {
        BOOST_REQUIRE(setgroups(0, nullptr) == 0);
        BOOST_REQUIRE(setegid(kNobody) == 0);
        BOOST_REQUIRE(seteuid(kNobody) == 0);
    }
    ~AsNobody() {
        if (seteuid(0) != 0 || setegid(0) != 0) std::abort();
    }
    AsNobody(AsNobody&&) = delete;
};

// A reader of that user is served from the arena, with the right bytes.
inline void is_served(const WorkDir& dir, const Daemon& daemon, const std::string& file, uint64_t seed,
                      uid_t user = 0) {
    ReaderProcess reader(dir, {.socket = daemon.socket(), .user = user});
    reader.call("map path=" + file);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    BOOST_TEST(all_right(reader.call("verify seed=" + std::to_string(seed))));
}

template <class T>
T make(wire::Kind kind) {
    T message{};
    message.header = {wire::kMagic, wire::kVersion, kind, sizeof(T), 1};
    return message;
}

struct Answer {
    wire::Reply reply{};
    std::vector<Fd> fds;
};

class RawClient {
  public:
    explicit RawClient(const std::string& path)
        : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
        sockaddr_un address = {};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        BOOST_REQUIRE(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
        const timeval patience{10, 0};
        setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }

    // False when tierd has ended the session already.
    bool send(std::span<const char> bytes, std::span<const int> fds = {}) {
        iovec part{const_cast<char*>(bytes.data()), bytes.size()};
        std::vector<char> control(fds.empty() ? 0 : CMSG_SPACE(fds.size_bytes()));
        msghdr message = {};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (!fds.empty()) {
            message.msg_control = control.data();
            message.msg_controllen = control.size();
            cmsghdr* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(fds.size_bytes());
            std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
        }
        return sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == ssize_t(bytes.size());
    }
    template <class T>
    bool send(const T& message, std::initializer_list<int> fds = {}) {
        return send(std::span(reinterpret_cast<const char*>(&message), sizeof(T)),
                    std::span(fds.begin(), fds.size()));
    }

    // Empty: tierd has ended the session. A silence of ten seconds fails the test.
    std::optional<Answer> receive() {
        Answer answer;
        iovec part{&answer.reply, sizeof(answer.reply)};
        alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
        msghdr message = {};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        const ssize_t got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
        BOOST_REQUIRE_MESSAGE(got >= 0 || errno != EAGAIN, "tierd neither answers nor ends the session");
        if (got <= 0) return std::nullopt;
        for (cmsghdr* h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h))
            for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i)
                answer.fds.emplace_back(reinterpret_cast<const int*>(CMSG_DATA(h))[i]);
        return answer;
    }
    template <class T>
    std::optional<Answer> ask(const T& message, std::initializer_list<int> fds = {}) {
        if (!send(message, fds)) return std::nullopt;
        return receive();
    }

    std::optional<Answer> hello() {
        auto answer = ask(make<wire::Hello>(wire::Kind::hello));
        if (answer) hello_fds_ = std::move(answer->fds);
        return answer;
    }
    // A userfaultfd of this process, made from the device that came with the greeting.
    Fd make_userfaultfd() const {
        BOOST_REQUIRE(hello_fds_.size() == 3u);
        Fd made(ioctl(hello_fds_[2].get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
        uffdio_api api = {
            .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM, .ioctls = 0};
        BOOST_REQUIRE(ioctl(made.get(), UFFDIO_API, &api) == 0);
        return made;
    }

    int socket() const { return socket_.get(); }

  private:
    Fd socket_;
    std::vector<Fd> hello_fds_;
};

// What a well-behaved client sends to attach the file behind `fd`.
inline std::optional<Answer> attach_by_hand(RawClient& client, const std::string& path, int fd) {
    auto message = make<wire::Attach>(wire::Kind::attach);
    path.copy(message.path, sizeof(message.path) - 1);
    return client.ask(message, {fd});
}

inline bool refused(const std::optional<Answer>& answer) {
    return !answer || (answer->reply.status < 0 && answer->fds.empty());
}

}  // namespace tierd::itest
