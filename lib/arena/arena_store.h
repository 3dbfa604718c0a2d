// arena_store.h - creates arenas: from a private tmpfs with huge pages, plain memfds, or the hugetlb pool.
//
// Owns:      the private tmpfs mount (visible in no directory tree) and its changes to system settings; it undoes both
//            when it is destroyed.
// Invariant: no system-wide setting changes, with two exceptions: nr_overcommit_hugepages if hugetlb was requested, and
//            shmem_enabled of two folio sizes from "never" to "advise", which affects only mappings that request it.
// Callers:   make_arena() from any thread.
#pragma once

#include <string>
#include <vector>

#include "lib/arena/arena.h"
#include "lib/arena/changed_settings.h"

namespace tierd {

enum class HugePages : uint8_t { automatic, hugetlb, thp, off };

class ArenaStore {
  public:
    // Finds out what this machine can do. `budget_bytes` bounds the hugetlb pages asked of the system. `note`
    // is the file that records changed settings (changed_settings.h). Never fails: notes() lists what is unavailable.
    static ArenaStore discover(HugePages wanted, uint64_t budget_bytes, const std::string& note = {});

    // An empty arena of at least `length_bytes` (rounded up to `extent_bytes`). hugetlb is used only when
    // `may_be_hugetlb` (no client will ever write into its mapping), the extent is 2 MiB and, unless it was
    // asked for outright, the pool can hold the file or the budget: a smaller one would be a smaller budget.
    // Transparent huge pages serve 2 MiB extents only, since a smaller one would bring its neighbours' memory.
    // Errors: errno of the calls beneath.
    Result<Arena> make_arena(uint64_t length_bytes, uint64_t extent_bytes, bool may_be_hugetlb) const;

    // Puts the settings back before the store goes: no more arenas will be made.
    void restore_settings() { settings_.restore(); }

    // What this machine can't do, one line each with the remedy.
    const std::vector<std::string>& notes() const { return notes_; }

  private:
    explicit ArenaStore(const std::string& note) : settings_(note) {}
    void open_huge_tmpfs();
    void allow_folios();
    void open_hugetlb(uint64_t budget_bytes, bool must);
    bool change_setting(const std::string& path, const std::string& to, const char* else_what);
    bool hugetlb_holds(uint64_t bytes) const;
    Result<Arena> make_in_tmpfs(uint64_t length_bytes) const;
    Result<Arena> make_memfd(uint64_t length_bytes, Backing backing) const;

    Fd tmpfs_;                   // root of the private mount; empty: none
    bool folios_ = false;        // the kernel makes folios smaller than a huge page where it is asked to
    bool hugetlb_ = false;       // use it where possible
    bool must_hugetlb_ = false;  // it was asked for outright
    uint64_t budget_bytes_ = 0;
    ChangedSettings settings_;
    std::vector<std::string> notes_;
};

}  // namespace tierd
