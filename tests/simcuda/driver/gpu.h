// gpu.h - the memory of the simulated GPU: how much there is, who holds how much, and the bytes themselves.
//
// Owns:      the ledger (a file that all processes of one GPU map) and this process's own pages (a memory file).
// Invariant: the sum that the ledger gives out never exceeds the GPU's memory. A process that dies, however it dies,
//            holds nothing any more: each process keeps a lock on its own byte of the ledger, which the kernel drops with
//            the process, and whoever needs memory looks for slots without one.
// Callers:   any thread of any process.
// Fails:     charge() gives false when the GPU is full, as a GPU does.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "lib/base/fd.h"
#include "lib/base/result.h"
#include "tests/simcuda/driver/settings.h"

namespace simcuda {

enum class Direction { to_device = 0, to_host = 1 };

class Gpu {
  public:
    // Opens or makes the ledger. Errors: errno of open(2), mmap(2), fcntl(2); bad_config where the file is another kind
    // of file or a GPU of another size; no_space where 256 processes use the GPU.
    static tierd::Result<std::unique_ptr<Gpu>> open(const Settings& settings);

    bool charge(uint64_t bytes);  // false: the GPU has not that much left
    void refund(uint64_t bytes);
    uint64_t total_bytes() const;
    uint64_t free_bytes();        // after the dead have been cleared away
    uint64_t held_bytes() const;  // by this process
    uint64_t peak_bytes() const;  // the most that this process held

    // Takes the link for `bytes`, not before `start_ns`. Returns when the transfer ends on the GPU's clock. Without a
    // modelled bandwidth it is `start_ns`.
    uint64_t take_link(Direction direction, uint64_t start_ns, uint64_t bytes);

    // The memory file that device memory is mapped from. take_pages() gives a part of it that was never used before.
    int pages_fd() const { return pages_.get(); }
    uint64_t take_pages(uint64_t bytes) { return next_page_.fetch_add(bytes); }
    void drop_pages(uint64_t offset, uint64_t bytes);

  private:
    struct Ledger;
    class Lock;
    Gpu() = default;
    tierd::Result<void> adopt(const Settings& settings);
    tierd::Result<void> take_slot();
    void clear_the_dead();
    uint64_t used_bytes() const;

    mutable std::mutex mutex_;  // between threads; Lock adds the lock between processes
    tierd::Fd file_;
    tierd::Fd pages_;
    tierd::Mapping mapping_;
    Ledger* ledger_ = nullptr;
    std::atomic<uint64_t>* link_free_at_ns_ =
        nullptr;  // two of them: the ledger's, or our own where time is virtual
    std::atomic<uint64_t> own_link_[2] = {};
    std::atomic<uint64_t> next_page_ = 0;
    std::atomic<uint64_t> peak_bytes_ = 0;
    uint64_t copy_bytes_per_s_ = 0;
    unsigned slot_ = 0;
};

}  // namespace simcuda
