// direct_client.h - a client of the engine in the test's own process: attaches a file, maps its arena,
// touches it. It does by hand what the shim does, so that the engine is tested without one.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/test/unit_test_suite.hpp>
#include <string>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/engine/engine.h"
#include "lib/session/packet.h"

namespace tierd::test {

inline Fd make_userfaultfd() {
    Fd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
    BOOST_REQUIRE(::ioctl(fd.get(), UFFDIO_API, &api) == 0);
    return fd;
}

class DirectClient {
  public:
    explicit DirectClient(Engine& engine) : engine_(engine), userfaultfd_(make_userfaultfd()) {
        int pair[2];
        BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        command_channel_ = Fd(pair[1]);
        auto opened = engine_.open_session({.pid = ::getpid()}, Fd(pair[0]));
        BOOST_REQUIRE(opened.has_value());
        session_ = *opened;
    }
    ~DirectClient() { engine_.close_session(session_); }

    // Maps the whole file from its arena; what comes back is touched like any memory.
    const unsigned char* map(const std::string& path) {
        auto fd = open_file(path, O_RDONLY);
        BOOST_REQUIRE(fd.has_value());
        auto answer = engine_.attach(session_, std::move(*fd), {.path = path});
        BOOST_REQUIRE_MESSAGE(answer.has_value(), (answer ? "" : answer.error().text()));
        uint64_t length = round_up(answer->size_bytes, answer->page_bytes);
        char* room = static_cast<char*>(::mmap(nullptr, length + 2 * kMiB, PROT_NONE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        char* at = reinterpret_cast<char*>(round_up(reinterpret_cast<uint64_t>(room), 2 * kMiB));
        void* mapped =
            ::mmap(at, length, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, answer->arena.get(), 0);
        BOOST_REQUIRE(mapped == at);
        uffdio_register range{};
        range.range = {reinterpret_cast<uint64_t>(at), length};
        range.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
        BOOST_REQUIRE(::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &range) == 0);
        auto copy = duplicate(userfaultfd_);
        auto taken = engine_.map(session_,
                                 {.file = answer->file,
                                  .address = reinterpret_cast<uint64_t>(at),
                                  .offset_bytes = 0,
                                  .length_bytes = length},
                                 std::move(*copy));
        BOOST_REQUIRE_MESSAGE(taken.has_value(), (taken ? "" : taken.error().text()));
        return reinterpret_cast<const unsigned char*>(at);
    }

    int command_channel_fd() const { return command_channel_.get(); }
    uint64_t session() const { return session_; }

  private:
    Engine& engine_;
    Fd userfaultfd_;
    Fd command_channel_;
    uint64_t session_ = 0;
};

}  // namespace tierd::test
