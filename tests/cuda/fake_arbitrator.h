// fake_arbitrator.h - a tierd that shares a GPU out as a test says, word by word. It serves no files: sessions are refused.
//
// Owns:      a listening socket, one thread, the lease of one process.
// Invariant: it speaks lib/session/wire.h; whatever the process wants, it is granted at once.
// Callers:   the test's main thread; the object's own thread serves.
// Fails:     the constructor throws std::runtime_error; while serving, a failure ends the lease.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <mutex>
#include <string>
#include <thread>

#include "lib/base/fd.h"
#include "lib/session/packet.h"
#include "tests/integration/listener.h"

namespace tierd::itest {

class FakeArbitrator {
  public:
    explicit FakeArbitrator(const std::string& path) : listener_(listen_at(path)) {
        thread_ = std::thread([this] { run(); });
    }
    ~FakeArbitrator() {
        stop_ = true;
        thread_.join();
    }

    unsigned wants() const { return wants_; }
    uint64_t lease_bytes() const { return lease_bytes_; }

    // Everything is asked back; behind the order goes a word of the lease as it still is.
    void ask_back_and_cross() {
        std::lock_guard lock(mutex_);
        auto order = make_message<wire::LeaseReclaim>(wire::Kind::lease_reclaim, last_sequence_);
        BOOST_REQUIRE(send_message(lease_.get(), order).has_value());
        tell();
    }

  private:
    static constexpr uint64_t kLimitBytes = 64 << 20;

    void run() {
        while (!stop_) {
            pollfd wait[] = {{listener_.get(), POLLIN, 0}, {lease_.get(), POLLIN, 0}};
            ::poll(wait, 2, 20);
            std::lock_guard lock(mutex_);
            if (wait[0].revents != 0) handshake();
            if (wait[1].revents != 0 && !receive()) lease_.reset();
        }
    }
    void handshake() {
        Fd come(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        auto packet = receive_packet(come.get());
        if (!packet || packet->header().kind != wire::Kind::lease_hello) return;
        lease_ = std::move(come);
        tell();
    }
    bool receive() {
        auto packet = receive_packet(lease_.get());
        if (!packet) return false;
        last_sequence_ = packet->header().sequence;
        if (auto want = packet->as<wire::LeaseGrow>();
            want && packet->header().kind == wire::Kind::lease_grow) {
            wants_++;
            lease_bytes_ = want->requested_bytes;
        }
        if (auto holds = packet->as<wire::LeaseShrunk>();
            holds && packet->header().kind == wire::Kind::lease_shrunk)
            lease_bytes_ = holds->lease_bytes;
        else
            tell();
        return true;
    }
    void tell() {
        auto grant = make_message<wire::LeaseGrant>(wire::Kind::lease_grant, last_sequence_);
        grant.lease_bytes = lease_bytes_;
        grant.limit_bytes = grant.overcommit_bytes = kLimitBytes;
        (void)send_message(lease_.get(), grant);
    }

    Fd listener_;
    std::atomic<bool> stop_{false};
    std::atomic<unsigned> wants_{0};
    std::atomic<uint64_t> lease_bytes_{0};
    std::mutex mutex_;  // guards those below
    Fd lease_;
    uint32_t last_sequence_ = 0;
    std::thread thread_;
};

}  // namespace tierd::itest
