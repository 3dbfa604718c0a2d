// memory.h - the addresses of the simulated device: what is reserved, mapped, accessible, pinned, freed.
//
// Owns:      every range of device memory, managed memory and pinned host memory of this process, and the physical
//            allocations behind them.
// Invariant: a byte of device memory can be touched exactly while CUDA says so: address space without memory, memory
//            without access and freed memory are PROT_NONE, and freed addresses are not given out again for a long while.
// Callers:   any thread; one lock, never held while waiting for a stream.
// Fails:     with the documented CUresult. What a program must not do goes through misuse().
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/simcuda/driver/gpu.h"

namespace simcuda {

constexpr uint64_t kLargeBytes = 2ull << 20;  // allocations of so much start at its multiples
constexpr uint64_t kAlignmentBytes = 512;     // of what cuMemAlloc returns

enum class Kind { plain, stream_ordered, mapping, managed, pinned, registered };
const char* kind_name(Kind kind);
enum class Access { none, read, read_write };

// Memory of the GPU, charged to the ledger for its life.
class Physical {
  public:
    static std::shared_ptr<Physical> take(Gpu& gpu, uint64_t bytes,
                                          uint64_t charged_bytes);  // null: GPU full
    ~Physical();
    Physical(const Physical&) = delete;
    uint64_t offset() const { return offset_; }
    uint64_t bytes() const { return bytes_; }
    // True once: nobody could write to these bytes before.
    bool first_touch() { return std::exchange(fresh_, false); }

  private:
    Physical(Gpu& gpu, uint64_t bytes, uint64_t charged_bytes);
    Gpu& gpu_;
    uint64_t offset_, bytes_, charged_bytes_;
    bool fresh_ = true;  // under Memory's lock, or while nobody else knows the object
};

struct Region {
    Kind kind = Kind::plain;
    uint64_t base = 0, size_bytes = 0;
    Access access = Access::read_write;
    std::shared_ptr<Physical> physical;  // null for host memory
    uint64_t handle = 0;                 // of a mapping: the handle that it was made from
    uint64_t buffer_id = 0;
    CUcontext context = nullptr;
    unsigned flags = 0;
    CUmemoryPool pool = nullptr;
    bool freeing = false;  // cuMemFreeAsync was called: only work that was submitted before may use it
    uint64_t area_base = 0, area_bytes = 0;  // the address space to give back, guard page included
    bool on_device() const {
        return kind == Kind::plain || kind == Kind::stream_ordered || kind == Kind::mapping;
    }
    uint64_t end() const { return base + size_bytes; }
};

struct Range {
    uint64_t base = 0, size_bytes = 0;
};

class Memory {
  public:
    // `granularity_bytes`: of cuMemCreate and cuMemMap.
    Memory(Gpu& gpu, bool poison, uint64_t granularity_bytes)
        : gpu_(gpu), poison_(poison), granularity_bytes_(granularity_bytes) {}
    uint64_t granularity_bytes() const { return granularity_bytes_; }

    struct Ask {
        Kind kind = Kind::plain;
        uint64_t bytes = 0;
        CUcontext context = nullptr;
        unsigned flags = 0;
        CUmemoryPool pool = nullptr;
    };
    // Device memory in one piece, or host memory for Kind::managed and Kind::pinned.
    CUresult allocate(const Ask& ask, uint64_t* base);
    CUresult adopt_host(void* address, uint64_t bytes, unsigned flags,
                        CUcontext context);  // cuMemHostRegister
    void begin_free(uint64_t base);          // release() follows, on a stream
    CUresult release(uint64_t base, std::initializer_list<Kind> kinds);
    void release_all_of(CUcontext context);

    CUresult reserve(uint64_t bytes, uint64_t alignment, uint64_t hint, uint64_t* base);
    CUresult unreserve(uint64_t base, uint64_t bytes);
    CUresult create(uint64_t bytes, const CUmemAllocationProp& properties, uint64_t* handle);
    CUresult retain(uint64_t address, uint64_t* handle);
    CUresult drop(uint64_t handle);
    CUresult map(uint64_t base, uint64_t bytes, uint64_t handle);
    CUresult unmap(uint64_t base, uint64_t bytes);
    CUresult set_access(uint64_t base, uint64_t bytes, Access access);
    CUresult access_of(uint64_t address, Access* access);
    CUresult properties_of(uint64_t handle, CUmemAllocationProp* properties);

    std::optional<Region> find(uint64_t address) const;
    std::optional<Range> reservation_of(uint64_t address) const;
    std::string describe(uint64_t address) const;  // for messages: what this address is to us
    static constexpr size_t kDescriptionBytes = 128;
    // The same without allocating, for the handler of SIGSEGV. Returns the length.
    size_t describe_to(uint64_t address, char (&text)[kDescriptionBytes]) const;

    // May the device read (or write) the whole range? What is no device, managed or pinned memory is host memory that
    // only copies may touch: `host_allowed`.
    CUresult check(uint64_t base, uint64_t bytes, bool write, bool host_allowed) const;

    // Keeps the range from being unmapped or freed behind the back of work that is under way. Give the result back.
    using Use = std::list<Range>::iterator;
    Use begin_use(Range range);
    void end_use(Use use);

  private:
    struct Handle {
        std::shared_ptr<Physical> physical;
        CUmemAllocationProp properties = {};
        unsigned references = 0;
    };
    CUresult allocate_device(const Ask& ask, Region& region);
    CUresult allocate_host(const Ask& ask, Region& region);
    const Region* find_locked(uint64_t address) const;
    bool overlaps_locked(uint64_t base, uint64_t bytes) const;
    std::optional<Range> reservation_locked(uint64_t address) const;
    size_t describe_locked(uint64_t address, char (&text)[kDescriptionBytes]) const;
    std::string describe_locked(uint64_t address) const;
    CUresult whole_mappings(uint64_t base, uint64_t bytes, std::vector<uint64_t>* bases) const;
    bool is_ours_locked(uint64_t address) const;
    bool was_freed_locked(uint64_t address) const;
    CUresult refuse_in_use(uint64_t base, uint64_t bytes) const;
    void quarantine(Range area);

    Gpu& gpu_;
    const bool poison_;
    const uint64_t granularity_bytes_;
    mutable std::mutex mutex_;
    std::map<uint64_t, Region> regions_;      // by base
    std::map<uint64_t, Range> reservations_;  // by base
    std::unordered_map<uint64_t, Handle> handles_;
    std::list<Range> in_use_;
    std::map<uint64_t, Range> freed_;   // PROT_NONE still, by base
    std::deque<uint64_t> freed_order_;  // their bases, oldest first
    uint64_t freed_bytes_ = 0;
    uint64_t next_id_ = 1;
};

}  // namespace simcuda
