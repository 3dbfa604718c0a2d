// bpf_tables.h - the arrays that tierd shares with policies: rows of extents, models and tiers.
//
// Owns:      the BPF arrays and this process's mappings of them; both go when the last user does, a running program
//            keeping the arrays that it reads.
// Invariant: a table's address and size never change; more room means new tables.
// Callers:   make() any thread; the contents belong to one writer (the engine's thread, or a replay), programs read them.
// Fails:     at making: `denied` without CAP_BPF, `unsupported` where the kernel has no BPF, no_space.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "bpf/tierd_policy.h"
#include "lib/base/fd.h"

namespace tierd {

// An mmap-able BPF array.
struct SharedArray {
    Fd fd;
    Mapping memory;

    static Result<SharedArray> make(const std::string& name, uint32_t entry_bytes, uint32_t entries);
    // The same array over an address range that the caller has reserved. Errors: errno of mmap(2).
    static Result<void> map_over(const Fd& array, void* address, uint32_t entry_bytes, uint32_t entries);
};

// Can this process load policies at all? Errors say what would help.
Result<void> bpf_usable();

class BpfTables {
  public:
    // `room`: rows of extents. All zero.
    static Result<std::shared_ptr<BpfTables>> make(uint32_t room);

    uint32_t room() const { return room_; }
    std::span<tierd_extent> extents() const { return rows<tierd_extent>(extents_, room_); }
    std::span<tierd_model> models() const { return rows<tierd_model>(models_, TIERD_MAX_MODELS); }
    std::span<tierd_tier_info> tiers() const { return rows<tierd_tier_info>(tiers_, TIERD_MAX_TIERS); }

    const Fd& extents_fd() const { return extents_.fd; }
    const Fd& models_fd() const { return models_.fd; }
    const Fd& tiers_fd() const { return tiers_.fd; }

  private:
    template <class Row>
    static std::span<Row> rows(const SharedArray& array, uint32_t count) {
        return {reinterpret_cast<Row*>(array.memory.data()), count};
    }

    uint32_t room_ = 0;
    SharedArray extents_, models_, tiers_;
};

}  // namespace tierd
