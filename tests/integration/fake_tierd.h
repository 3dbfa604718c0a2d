// fake_tierd.h - a tierd that does as a test says: answers late, wrongly or not at all, dies, hangs, orders
// fall-backs.
//
// Owns:      a listening socket, one thread, one session, one arena of one file.
// Invariant: it speaks lib/session/wire.h with real descriptors: a memfd arena, the client's userfaultfd, a
//            heartbeat page. What it fills is what pread(2) gives.
// Callers:   the test's main thread; the object's own thread serves. Construct it, fork the clients, then
//            start().
// Fails:     throws std::runtime_error from the constructor; while serving, a failure ends the session.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/fd.h"
#include "lib/session/wire.h"

namespace tierd::itest {

struct FakePlan {
    bool answer_hello = true;
    bool answer_map = true;
    uint32_t reply_magic = wire::kMagic;
    int attach_status = 0;
    uint64_t page_bytes = 4096;  // 2 MiB: the arena is hugetlb
};

// What the client has said so far.
struct Heard {
    unsigned hellos = 0;
    unsigned will_need = 0;
    std::vector<wire::Attach> attaches;
    std::vector<wire::Map> maps;
    std::vector<wire::Unmap> unmaps;
    std::vector<wire::FallenBack> fallen_back;
    std::vector<uint64_t> touches;  // offsets in the file, of the pages that faulted
};

class FakeTierd {
  public:
    FakeTierd(std::string socket_path, std::string weights_path, const FakePlan& plan);
    ~FakeTierd();

    void start();
    void die();   // everything is closed at once, as by kill -9
    void hang();  // no beat, no answer, no fill; nothing is closed
    // Sends an order for the file's bytes [offset, offset + length); `file` 0 means everything. Returns its
    // sequence.
    uint32_t command_fall_back(uint64_t file, uint64_t offset_bytes, uint64_t length_bytes);
    // Asks for a page of the file to be unmapped; nothing answers it.
    void order_show_touch(uint64_t file, uint64_t offset_bytes, uint64_t length_bytes);
    Heard heard() const;

    static constexpr uint64_t kFile = 7;

  private:
    void run();
    void handshake();
    void answer();
    void serve_faults();
    void fill(uint64_t address);
    template <class T>
    void reply(const wire::Header& request, T change, int fd = -1);
    void close_all();

    const std::string socket_path_;
    const FakePlan plan_;
    uint64_t file_bytes_ = 0;
    uint64_t arena_bytes_ = 0;
    Fd listener_, request_, command_channel_, userfaultfd_, weights_, arena_, arena_readonly_, heartbeat_,
        stop_event_;
    Mapping arena_map_, heartbeat_map_;
    std::set<uint64_t> filled_;
    std::atomic<bool> stop_{false}, hung_{false};
    mutable std::mutex mutex_;  // guards heard_, notice_ and next_order_
    Heard heard_;
    uint32_t next_order_ = 100;
    std::thread thread_;
};

}  // namespace tierd::itest
