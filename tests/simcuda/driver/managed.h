// managed.h - which managed memory is on the card: what prefetches brought there, and what had to go for it.
//
// The bytes themselves are host memory that kernels and host code may touch at any time; only their place is modelled, in
// chunks of 2 MiB. A prefetch to the card takes memory from the ledger and, where the card is full, sends home what this
// process brought there longest ago; what still doesn't fit stays at home, as it would.
// Invariant: each chunk that is on the card is charged to it once.
// Callers:   any thread; one lock. Fails: nothing here does.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "tests/simcuda/driver/card.h"

namespace simcuda {

struct Advice {
    bool read_mostly = false;
    int preferred = -2;  // CU_DEVICE_INVALID; -1: the host; 0: the card
    bool accessed_by_device = false;
    int last_prefetch = -2;
};

class Managed {
  public:
    explicit Managed(Card& card) : card_(card) {}

    void add(uint64_t base, uint64_t bytes);
    void remove(uint64_t base);  // gives back what is on the card
    // Returns when the transfer ends.
    uint64_t prefetch(uint64_t address, uint64_t bytes, bool to_device, uint64_t start_ns);
    uint64_t bytes_on_card(uint64_t base) const;

    // Reads or changes the advice of the range that the address lies in. false: it is none of ours.
    template <class Body>
    bool with_advice(uint64_t address, Body body) {
        std::lock_guard lock(mutex_);
        auto it = find(address);
        if (it == ranges_.end()) return false;
        body(it->second.advice);
        return true;
    }

  private:
    struct Chunk {
        uint64_t range, index;
    };
    struct Range {
        uint64_t bytes = 0;
        std::vector<bool> on_card;
        Advice advice;
    };
    std::map<uint64_t, Range>::iterator find(uint64_t address);
    uint64_t chunk_bytes(const Range& range, uint64_t index) const;
    bool bring(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns);
    void send_home(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns);

    Card& card_;
    mutable std::mutex mutex_;
    std::map<uint64_t, Range> ranges_;
    std::list<Chunk> oldest_first_;  // all that is on the card
};

}  // namespace simcuda
