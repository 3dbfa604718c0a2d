// extent_table.h - one row for every extent of every open weight file, in one array that policies can read whole.
//
// Owns:      the memory of the rows and which ranges of them are in use. The memory is this process's own until a
//            policy is loaded, and then an array that its programs map.
// Invariant: a row's address never changes; the rows of one file are consecutive; free rows are all zero.
// Callers:   the engine's thread only.
#pragma once

#include <map>
#include <optional>
#include <span>

#include "bpf/tierd_policy.h"
#include "lib/base/fd.h"
#include "lib/policy/bpf_tables.h"
#include "lib/policy/policy.h"

namespace tierd {

class ExtentTable {
  public:
    // Room for 16 Mi extents (32 TiB of 2 MiB extents): 1 GiB of address space, memory only where rows are
    // used.
    static Result<ExtentTable> make();

    // `count` consecutive rows, or nothing when the table is full.
    std::optional<ExtentId> take(uint32_t count);
    // Puts the rows into an array that programs read: from now on they are written there. Errors: no_space when it
    // has fewer rows than are in use, the errno of mmap(2); then nothing has changed.
    Result<void> share(const BpfTables& tables);
    // Clears the rows and frees them.
    void give_back(ExtentId first, uint32_t count);

    tierd_extent& operator[](ExtentId id) { return rows()[id]; }
    // Rows in use lie below this; for sweeps.
    uint32_t size() const { return end_; }
    std::span<tierd_extent> used() { return {rows(), end_}; }

  private:
    explicit ExtentTable(Mapping memory) : memory_(std::move(memory)) {}
    tierd_extent* rows() { return reinterpret_cast<tierd_extent*>(memory_.data()); }

    Mapping memory_;
    std::map<ExtentId, uint32_t> free_;  // first row → how many, below end_; neighbours are merged
    uint32_t end_ = 0;
};

}  // namespace tierd
