// arena_store.h - where arenas come from: a private tmpfs with huge pages, plain memfds, or the hugetlb pool.
//
// Owns:      the private tmpfs mount (visible in no directory tree) and what it raised of the hugetlb pool's
//            limit; both are given back when it goes.
// Invariant: no system-wide setting changes, except nr_overcommit_hugepages where hugetlb was asked for.
// Callers:   make_arena() from any thread.
#pragma once

#include <string>
#include <vector>

#include "lib/arena/arena.h"

namespace tierd {

enum class HugePages : uint8_t { automatic, hugetlb, thp, off };

class ArenaStore {
  public:
    // Finds out what this machine can do. `budget_bytes` bounds the hugetlb pages asked of the system. `limit_note`
    // is a file that remembers the pool's limit while it is raised, so that the next start puts back what a killed tierd
    // could not; empty: nothing remembers. Never fails: what can't be had is told by notes().
    static ArenaStore discover(HugePages wanted, uint64_t budget_bytes, const std::string& limit_note = {});
    ~ArenaStore();
    ArenaStore(ArenaStore&&) noexcept = default;

    // An empty arena of at least `length_bytes` (rounded up to `extent_bytes`). hugetlb is used only when
    // `may_be_hugetlb` (no client will ever write into its mapping), the extent is 2 MiB and, unless it was
    // asked for outright, the pool can hold the file or the budget: a smaller one would be a smaller budget.
    // Transparent huge pages serve 2 MiB extents only, since a smaller one would bring its neighbours' memory.
    // Errors: errno of the calls beneath.
    Result<Arena> make_arena(uint64_t length_bytes, uint64_t extent_bytes, bool may_be_hugetlb) const;

    // Puts back what was raised of the hugetlb pool's limit, before the store goes: no more arenas will be made.
    void restore_limit();

    // What this machine can't do, one line each with the remedy.
    const std::vector<std::string>& notes() const { return notes_; }

  private:
    ArenaStore() = default;
    void open_huge_tmpfs();
    void open_hugetlb(uint64_t budget_bytes, bool must);
    bool open_note(int more_flags);
    void raise_limit(uint64_t pages);
    bool hugetlb_holds(uint64_t bytes) const;
    Result<Arena> make_in_tmpfs(uint64_t length_bytes) const;
    Result<Arena> make_memfd(uint64_t length_bytes, Backing backing) const;

    Fd tmpfs_;                   // root of the private mount; empty: none
    bool hugetlb_ = false;       // use it where possible
    bool must_hugetlb_ = false;  // it was asked for outright
    uint64_t budget_bytes_ = 0;
    std::string note_path_;
    Fd note_;  // locked while the limit is raised; others leave it alone
    std::string
        limit_;  // "before raised", as in the note: what nr_overcommit_hugepages held, and what we wrote
    std::vector<std::string> notes_;
};

}  // namespace tierd
