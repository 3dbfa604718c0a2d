// slow_fs.h - a file system of one file whose answers can be held back for as long as the test likes, as a network's or a
// user's own (FUSE) may do. It speaks the kernel's FUSE protocol.
//
// Owns:      the mount, and the thread that answers for it.
// Invariant: whoever waits for it goes on, with an error, once the object goes.
// Callers:   the test's main thread, which must not touch the file itself.
// Fails:     the constructor throws std::system_error where this machine can't mount one (usable() asks first).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/fd.h"
#include "tests/integration/harness.h"

namespace tierd::itest {

class SlowFs {
  public:
    // "": it can; else why not.
    static std::string unusable();

    // Mounts at `folder` (made here) a file "model.weights" of pattern bytes.
    SlowFs(const std::string& folder, uint64_t seed, uint64_t bytes);
    ~SlowFs();
    std::string path() const { return folder_ + "/model.weights"; }

    // From now on reads, or the answers to close(2), are not given.
    void hold_reads() { holds_reads_ = true; }
    void hold_closes() { holds_closes_ = true; }
    uint64_t held() const { return held_; }  // requests that wait now

  private:
    void run();
    void answer(const std::vector<char>& request);
    void reply(uint64_t unique, int error, const void* body = nullptr, size_t bytes = 0);
    void reply_read(uint64_t unique, uint64_t offset, uint32_t length);

    std::string folder_;
    uint64_t seed_;
    uint64_t bytes_;
    Fd device_;
    std::atomic<bool> holds_reads_{false};
    std::atomic<bool> holds_closes_{false};
    std::atomic<uint64_t> held_{0};
    Fd stop_;
    std::thread thread_;
};

}  // namespace tierd::itest
