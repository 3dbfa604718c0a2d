// bpf_tables.h - the arrays that tierd shares with policies: rows of extents, models, tiers, GPUs and leases.
//
// Owns:      the BPF arrays and this process's mappings of them; both are freed with the last user. A running program
//            keeps the arrays that it reads.
// Invariant: a table's address and size never change; more capacity means new tables.
// Callers:   make() any thread; one writer (the engine's thread, or a replay) changes the contents, programs read them.
// Fails:     when made: `denied` without CAP_BPF, `unsupported` if the kernel has no BPF, no_space.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

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

// A name as rows hold it: cut where it does not fit, zeroes behind it.
void put_name(std::string_view name, std::span<char> field);

// Can this process load policies at all? Errors say what would help.
Result<void> bpf_usable();

class BpfTables {
  public:
    // `capacity`: rows of extents. All zero.
    static Result<std::shared_ptr<BpfTables>> make(uint32_t capacity);

    uint32_t capacity() const { return capacity_; }
    std::span<tierd_extent> extents() const { return rows<tierd_extent>(extents_, capacity_); }
    std::span<tierd_model> models() const { return rows<tierd_model>(models_, TIERD_MAX_MODELS); }
    std::span<tierd_tier_info> tiers() const { return rows<tierd_tier_info>(tiers_, TIERD_MAX_TIERS); }
    std::span<tierd_gpu> gpus() const { return rows<tierd_gpu>(gpus_, TIERD_MAX_GPUS); }
    std::span<tierd_lease> leases() const { return rows<tierd_lease>(leases_, TIERD_MAX_LEASES); }

    const Fd& extents_fd() const { return extents_.fd; }
    // Of extents, models, tiers, GPUs, leases.
    std::array<int, 5> fds() const {
        return {extents_.fd.get(), models_.fd.get(), tiers_.fd.get(), gpus_.fd.get(), leases_.fd.get()};
    }

  private:
    template <class Row>
    static std::span<Row> rows(const SharedArray& array, uint32_t count) {
        return {reinterpret_cast<Row*>(array.memory.data()), count};
    }

    uint32_t capacity_ = 0;
    SharedArray extents_, models_, tiers_, gpus_, leases_;
};

}  // namespace tierd
