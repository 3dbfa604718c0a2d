#include "tests/simcuda/driver/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "lib/base/bytes.h"
#include "tests/simcuda/driver/misuse.h"

namespace simcuda {
namespace {

constexpr size_t kFreedRanges = 4096;  // kept unusable, so that a stale pointer crashes
constexpr uint64_t kFreedBytes = uint64_t{1} << 40;
constexpr uint64_t kHandleTag = uint64_t{0xCA} << 56;

uint64_t page_bytes() {
    static const auto size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

void* pointer(uint64_t address) {
    return reinterpret_cast<void*>(address);
}

// Address space without memory. 0: the machine has none left.
uint64_t take_addresses(uint64_t bytes, uint64_t alignment, uint64_t hint) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (hint && hint % alignment == 0) {
        void* at = ::mmap(pointer(hint), bytes, PROT_NONE, kFlags | MAP_FIXED_NOREPLACE, -1, 0);
        if (at == pointer(hint)) return hint;
        if (at != MAP_FAILED) ::munmap(at, bytes);
    }
    uint64_t slack = alignment > page_bytes() ? alignment : 0;
    void* at = ::mmap(nullptr, bytes + slack, PROT_NONE, kFlags, -1, 0);
    if (at == MAP_FAILED) return 0;
    auto start = reinterpret_cast<uint64_t>(at);
    uint64_t base = tierd::round_up(start, alignment);
    if (base > start) ::munmap(at, base - start);
    uint64_t end = start + bytes + slack;
    if (end > base + bytes) ::munmap(pointer(base + bytes), end - base - bytes);
    return base;
}

bool close_off(uint64_t base, uint64_t bytes) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return ::mmap(pointer(base), bytes, PROT_NONE, kFlags, -1, 0) != MAP_FAILED;
}

int protection(Access access) {
    return access == Access::none ? PROT_NONE : access == Access::read ? PROT_READ : PROT_READ | PROT_WRITE;
}

// The kernel ran out of mappings (vm.max_map_count) or of memory; a driver calls that out of memory.
constexpr CUresult kNoMappings = CUDA_ERROR_OUT_OF_MEMORY;

// What a description adds.
const char* access_note(Access access) {
    return access == Access::none ? ", no access" : access == Access::read ? ", read-only" : "";
}

}  // namespace

const char* kind_name(Kind kind) {
    switch (kind) {
        case Kind::plain:
            return "memory of cuMemAlloc";
        case Kind::stream_ordered:
            return "memory of cuMemAllocAsync";
        case Kind::mapping:
            return "mapped memory of cuMemCreate";
        case Kind::managed:
            return "managed memory";
        case Kind::pinned:
            return "pinned host memory";
        case Kind::registered:
            return "registered host memory";
    }
    return "memory";
}

Physical::Physical(Gpu& gpu, uint64_t bytes, uint64_t charged_bytes)
    : gpu_(gpu), offset_(gpu.take_pages(bytes)), bytes_(bytes), charged_bytes_(charged_bytes) {}

std::shared_ptr<Physical> Physical::take(Gpu& gpu, uint64_t bytes, uint64_t charged_bytes) {
    if (!gpu.charge(charged_bytes)) return nullptr;
    return std::shared_ptr<Physical>(new Physical(gpu, bytes, charged_bytes));
}

Physical::~Physical() {
    gpu_.drop_pages(offset_, bytes_);
    gpu_.refund(charged_bytes_);
}

CUresult Memory::allocate(const Ask& ask, uint64_t* base) {
    if (ask.bytes == 0) return misuse(CUDA_ERROR_INVALID_VALUE, "an allocation of 0 bytes");
    if (ask.bytes > uint64_t{1} << 46) return CUDA_ERROR_OUT_OF_MEMORY;
    Region region;
    region.kind = ask.kind;
    region.context = ask.context;
    region.flags = ask.flags;
    region.pool = ask.pool;
    region.size_bytes = ask.bytes;
    bool host = ask.kind == Kind::managed || ask.kind == Kind::pinned;
    CUresult result = host ? allocate_host(ask, region) : allocate_device(ask, region);
    if (result != CUDA_SUCCESS) return result;
    std::lock_guard lock(mutex_);
    region.buffer_id = next_id_++;
    *base = region.base;
    regions_.emplace(region.base, std::move(region));
    return CUDA_SUCCESS;
}

// The last bytes of the allocation end at a page that can't be touched, so that a kernel that runs past them crashes.
CUresult Memory::allocate_device(const Ask& ask, Region& region) {
    uint64_t charged = tierd::round_up(ask.bytes, kAlignmentBytes);
    uint64_t mapped = tierd::round_up(charged, page_bytes());
    region.physical = Physical::take(gpu_, mapped, charged);
    if (!region.physical) return CUDA_ERROR_OUT_OF_MEMORY;
    region.area_bytes = mapped + page_bytes();
    uint64_t alignment = mapped >= kLargeBytes ? kLargeBytes : page_bytes();
    region.area_base = take_addresses(region.area_bytes, alignment, 0);
    if (region.area_base == 0) return kNoMappings;
    void* at = ::mmap(pointer(region.area_base), mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                      gpu_.pages_fd(), static_cast<off_t>(region.physical->offset()));
    if (at == MAP_FAILED) {
        ::munmap(pointer(region.area_base), region.area_bytes);
        return kNoMappings;
    }
    bool large = mapped >= kLargeBytes;  // big ones start where engines expect it
    region.base = region.area_base + (large ? 0 : mapped - charged);
    if (poison_) std::memset(at, 0xCB, mapped);
    return CUDA_SUCCESS;
}

CUresult Memory::allocate_host(const Ask& ask, Region& region) {
    region.area_bytes = tierd::round_up(ask.bytes, page_bytes());
    uint64_t alignment = ask.kind == Kind::managed ? kLargeBytes : page_bytes();
    region.area_base = take_addresses(region.area_bytes, alignment, 0);
    if (region.area_base == 0) return kNoMappings;
    if (::mprotect(pointer(region.area_base), region.area_bytes, PROT_READ | PROT_WRITE) < 0) {
        ::munmap(pointer(region.area_base), region.area_bytes);
        return kNoMappings;
    }
    region.base = region.area_base;
    return CUDA_SUCCESS;
}

CUresult Memory::adopt_host(void* address, uint64_t bytes, unsigned flags, CUcontext context) {
    auto base = reinterpret_cast<uint64_t>(address);
    if (base == 0 || bytes == 0) return misuse(CUDA_ERROR_INVALID_VALUE, "registering no memory");
    uint64_t first = tierd::round_down(base, page_bytes());
    uint64_t length = tierd::round_up(base + bytes, page_bytes()) - first;
    std::vector<unsigned char> pages(length / page_bytes());
    if (::mincore(pointer(first), length, pages.data()) < 0)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes is not mapped host memory", base, bytes);
    std::lock_guard lock(mutex_);
    if (overlaps_locked(base, bytes))
        return misuse(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "{:#x} + {} bytes meets {}", base, bytes,
                      describe_locked(base));
    Region region;
    region.kind = Kind::registered;
    region.base = base;
    region.size_bytes = bytes;
    region.flags = flags;
    region.context = context;
    region.buffer_id = next_id_++;
    regions_.emplace(base, std::move(region));
    return CUDA_SUCCESS;
}

void Memory::begin_free(uint64_t base) {
    std::lock_guard lock(mutex_);
    auto it = regions_.find(base);
    if (it != regions_.end()) it->second.freeing = true;
}

CUresult Memory::release(uint64_t base, std::initializer_list<Kind> kinds) {
    std::lock_guard lock(mutex_);
    auto it = regions_.find(base);
    if (it == regions_.end() || std::find(kinds.begin(), kinds.end(), it->second.kind) == kinds.end())
        return misuse(CUDA_ERROR_INVALID_VALUE, "can't free {:#x}: {}", base, describe_locked(base));
    Region& region = it->second;
    if (CUresult busy = refuse_in_use(base, region.size_bytes); busy != CUDA_SUCCESS) return busy;
    if (region.kind != Kind::registered) {
        if (!close_off(region.area_base, region.area_bytes)) return kNoMappings;
        quarantine({region.area_base, region.area_bytes});
    }
    regions_.erase(it);
    return CUDA_SUCCESS;
}

void Memory::release_all_of(CUcontext context) {
    std::vector<std::pair<uint64_t, Kind>> bases;
    {
        std::lock_guard lock(mutex_);
        for (const auto& [base, region] : regions_)
            if (region.context == context && region.kind != Kind::mapping)
                bases.emplace_back(base, region.kind);
    }
    for (auto [base, kind] : bases) (void)release(base, {kind});
}

CUresult Memory::reserve(uint64_t bytes, uint64_t alignment, uint64_t hint, uint64_t* base) {
    if (bytes == 0 || bytes % granularity_bytes_)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{} bytes is no multiple of the granularity, {}", bytes,
                      granularity_bytes_);
    if (alignment & (alignment - 1))
        return misuse(CUDA_ERROR_INVALID_VALUE, "alignment {} is no power of two", alignment);
    uint64_t at = take_addresses(bytes, std::max(alignment, granularity_bytes_), hint);
    if (at == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    std::lock_guard lock(mutex_);
    reservations_.emplace(at, Range{at, bytes});
    *base = at;
    return CUDA_SUCCESS;
}

CUresult Memory::unreserve(uint64_t base, uint64_t bytes) {
    std::lock_guard lock(mutex_);
    auto it = reservations_.find(base);
    if (it == reservations_.end() || it->second.size_bytes != bytes)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes was not reserved in one piece: {}", base,
                      bytes, describe_locked(base));
    if (overlaps_locked(base, bytes))
        return misuse(CUDA_ERROR_INVALID_VALUE, "memory is still mapped in the reservation {:#x} + {}", base,
                      bytes);
    quarantine(it->second);
    reservations_.erase(it);
    return CUDA_SUCCESS;
}

CUresult Memory::create(uint64_t bytes, const CUmemAllocationProp& properties, uint64_t* handle) {
    if (bytes == 0 || bytes % granularity_bytes_)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{} bytes is no multiple of the granularity, {}", bytes,
                      granularity_bytes_);
    std::shared_ptr<Physical> physical = Physical::take(gpu_, bytes, bytes);
    if (!physical) return CUDA_ERROR_OUT_OF_MEMORY;
    std::lock_guard lock(mutex_);
    *handle = kHandleTag | next_id_++;
    handles_.emplace(*handle, Handle{std::move(physical), properties, 1});
    return CUDA_SUCCESS;
}

CUresult Memory::retain(uint64_t address, uint64_t* handle) {
    std::lock_guard lock(mutex_);
    const Region* region = find_locked(address);
    if (!region || region->kind != Kind::mapping)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} is not mapped by cuMemMap: {}", address,
                      describe_locked(address));
    auto it = handles_.find(region->handle);
    if (it == handles_.end()) {  // released while mapped: it lives on, under the handle that it had
        CUmemAllocationProp properties = {};
        properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
        properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
        it = handles_.emplace(region->handle, Handle{region->physical, properties, 0}).first;
    }
    ++it->second.references;
    *handle = region->handle;
    return CUDA_SUCCESS;
}

CUresult Memory::drop(uint64_t handle) {
    std::lock_guard lock(mutex_);
    auto it = handles_.find(handle);
    if (it == handles_.end())
        return misuse(CUDA_ERROR_INVALID_VALUE,
                      "handle {:#x} is not one of cuMemCreate, or was released before", handle);
    if (--it->second.references == 0) handles_.erase(it);
    return CUDA_SUCCESS;
}

CUresult Memory::map(uint64_t base, uint64_t bytes, uint64_t handle) {
    if (base % granularity_bytes_ || bytes == 0 || bytes % granularity_bytes_)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes is not aligned to {}", base, bytes,
                      granularity_bytes_);
    std::lock_guard lock(mutex_);
    auto it = handles_.find(handle);
    if (it == handles_.end())
        return misuse(CUDA_ERROR_INVALID_VALUE,
                      "handle {:#x} is not one of cuMemCreate, or was released before", handle);
    if (bytes > it->second.physical->bytes())
        return misuse(CUDA_ERROR_INVALID_VALUE, "{} bytes of an allocation of {}", bytes,
                      it->second.physical->bytes());
    std::optional<Range> reservation = reservation_locked(base);
    if (!reservation || base + bytes > reservation->base + reservation->size_bytes)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes is not within a reservation", base, bytes);
    if (overlaps_locked(base, bytes))
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes is mapped already", base, bytes);
    Region region;
    region.kind = Kind::mapping;
    region.base = base;
    region.size_bytes = bytes;
    region.access = Access::none;
    region.physical = it->second.physical;
    region.handle = handle;
    region.buffer_id = next_id_++;
    regions_.emplace(base, std::move(region));
    return CUDA_SUCCESS;
}

// Gives the bases of the mappings that make up the range, or says why they don't.
CUresult Memory::whole_mappings(uint64_t base, uint64_t bytes, std::vector<uint64_t>* bases) const {
    uint64_t at = base;
    while (at < base + bytes) {
        auto it = regions_.find(at);
        if (it == regions_.end() || it->second.kind != Kind::mapping || it->second.end() > base + bytes)
            return misuse(CUDA_ERROR_INVALID_VALUE,
                          "{:#x} + {} bytes is not made of whole mappings; at {:#x}: {}", base, bytes, at,
                          describe_locked(at));
        bases->push_back(at);
        at = it->second.end();
    }
    if (bases->empty()) return misuse(CUDA_ERROR_INVALID_VALUE, "a range of 0 bytes");
    return CUDA_SUCCESS;
}

CUresult Memory::unmap(uint64_t base, uint64_t bytes) {
    std::lock_guard lock(mutex_);
    std::vector<uint64_t> bases;
    if (CUresult bad = whole_mappings(base, bytes, &bases); bad != CUDA_SUCCESS) return bad;
    if (CUresult busy = refuse_in_use(base, bytes); busy != CUDA_SUCCESS) return busy;
    if (!close_off(base, bytes)) return kNoMappings;
    for (uint64_t at : bases) regions_.erase(at);
    return CUDA_SUCCESS;
}

CUresult Memory::set_access(uint64_t base, uint64_t bytes, Access access) {
    std::lock_guard lock(mutex_);
    std::vector<uint64_t> bases;
    if (CUresult bad = whole_mappings(base, bytes, &bases); bad != CUDA_SUCCESS) return bad;
    for (uint64_t at : bases) {
        Region& region = regions_.at(at);
        bool fresh = region.access == Access::none;
        void* mapped =
            fresh ? ::mmap(pointer(at), region.size_bytes, protection(access), MAP_SHARED | MAP_FIXED,
                           gpu_.pages_fd(), static_cast<off_t>(region.physical->offset()))
                  : nullptr;
        if (fresh ? mapped == MAP_FAILED : ::mprotect(pointer(at), region.size_bytes, protection(access)) < 0)
            return kNoMappings;
        if (fresh && poison_ && access == Access::read_write && region.physical->first_touch())
            std::memset(mapped, 0xCB, region.size_bytes);
        region.access = access;
    }
    return CUDA_SUCCESS;
}

CUresult Memory::access_of(uint64_t address, Access* access) {
    std::lock_guard lock(mutex_);
    const Region* region = find_locked(address);
    if (!region) return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x}: {}", address, describe_locked(address));
    *access = region->access;
    return CUDA_SUCCESS;
}

CUresult Memory::properties_of(uint64_t handle, CUmemAllocationProp* properties) {
    std::lock_guard lock(mutex_);
    auto it = handles_.find(handle);
    if (it == handles_.end())
        return misuse(CUDA_ERROR_INVALID_VALUE,
                      "handle {:#x} is not one of cuMemCreate, or was released before", handle);
    *properties = it->second.properties;
    return CUDA_SUCCESS;
}

std::optional<Region> Memory::find(uint64_t address) const {
    std::lock_guard lock(mutex_);
    const Region* region = find_locked(address);
    return region ? std::optional(*region) : std::nullopt;
}

std::optional<Range> Memory::reservation_of(uint64_t address) const {
    std::lock_guard lock(mutex_);
    return reservation_locked(address);
}

std::string Memory::describe(uint64_t address) const {
    char text[kDescriptionBytes];
    return {text, describe_to(address, text)};
}

size_t Memory::describe_to(uint64_t address, char (&text)[kDescriptionBytes]) const {
    std::lock_guard lock(mutex_);
    return describe_locked(address, text);
}

CUresult Memory::check(uint64_t base, uint64_t bytes, bool write, bool host_allowed) const {
    std::lock_guard lock(mutex_);
    uint64_t at = base;
    do {
        const Region* region = find_locked(at);
        if (!region) {
            bool ours = reservation_locked(at) || is_ours_locked(at);
            if (host_allowed && at == base && !ours) return CUDA_SUCCESS;
            return misuse(CUDA_ERROR_INVALID_VALUE, "{} {} bytes at {:#x}: {:#x} is {}",
                          write ? "writing" : "reading", bytes, base, at, describe_locked(at));
        }
        bool denied = region->access == Access::none || (write && region->access == Access::read);
        if (denied)
            return misuse(CUDA_ERROR_INVALID_VALUE,
                          "{} {} bytes at {:#x}: {:#x} has no such access (cuMemSetAccess)",
                          write ? "writing" : "reading", bytes, base, at);
        // Host memory may be registered in part; a copy may then start inside and end outside.
        if (host_allowed && region->kind == Kind::registered) return CUDA_SUCCESS;
        at = region->end();
    } while (at < base + bytes);
    return CUDA_SUCCESS;
}

Memory::Use Memory::begin_use(Range range) {
    std::lock_guard lock(mutex_);
    return in_use_.insert(in_use_.end(), range);
}

void Memory::end_use(Use use) {
    std::lock_guard lock(mutex_);
    in_use_.erase(use);
}

bool Memory::is_ours_locked(uint64_t address) const {
    return find_locked(address) || reservation_locked(address) || was_freed_locked(address);
}

const Region* Memory::find_locked(uint64_t address) const {
    auto it = regions_.upper_bound(address);
    if (it == regions_.begin()) return nullptr;
    --it;
    return address < it->second.end() ? &it->second : nullptr;
}

bool Memory::overlaps_locked(uint64_t base, uint64_t bytes) const {
    auto it = regions_.lower_bound(base);
    if (it != regions_.end() && it->first < base + bytes) return true;
    return find_locked(base) != nullptr;
}

std::optional<Range> Memory::reservation_locked(uint64_t address) const {
    auto it = reservations_.upper_bound(address);
    if (it == reservations_.begin()) return std::nullopt;
    --it;
    const Range& range = it->second;
    return address < range.base + range.size_bytes ? std::optional(range) : std::nullopt;
}

size_t Memory::describe_locked(uint64_t address, char (&text)[kDescriptionBytes]) const {
    char* end = text;
    if (const Region* region = find_locked(address))
        end = fmt::format_to_n(text, kDescriptionBytes, "{} ({:#x} + {} bytes{})", kind_name(region->kind),
                               region->base, region->size_bytes, access_note(region->access))
                  .out;
    else if (std::optional<Range> range = reservation_locked(address))
        end = fmt::format_to_n(text, kDescriptionBytes,
                               "reserved ({:#x} + {} bytes), but nothing is mapped there", range->base,
                               range->size_bytes)
                  .out;
    else if (was_freed_locked(address))
        end = fmt::format_to_n(text, kDescriptionBytes, "freed memory (use after free)").out;
    else
        end = fmt::format_to_n(text, kDescriptionBytes, "no memory that CUDA knows").out;
    return static_cast<size_t>(end - text);
}

std::string Memory::describe_locked(uint64_t address) const {
    char text[kDescriptionBytes];
    return {text, describe_locked(address, text)};
}

bool Memory::was_freed_locked(uint64_t address) const {
    auto it = freed_.upper_bound(address);
    if (it == freed_.begin()) return false;
    --it;
    return address < it->second.base + it->second.size_bytes;
}

CUresult Memory::refuse_in_use(uint64_t base, uint64_t bytes) const {
    for (const Range& range : in_use_)
        if (range.base < base + bytes && base < range.base + range.size_bytes)
            return misuse(CUDA_ERROR_INVALID_VALUE,
                          "{:#x} + {} bytes is still used by a copy that is under way ({:#x} + {} bytes)",
                          base, bytes, range.base, range.size_bytes);
    return CUDA_SUCCESS;
}

void Memory::quarantine(Range area) {
    freed_.emplace(area.base, area);
    freed_order_.push_back(area.base);
    freed_bytes_ += area.size_bytes;
    while (freed_.size() > kFreedRanges || freed_bytes_ > kFreedBytes) {
        Range oldest = freed_.at(freed_order_.front());
        freed_order_.pop_front();
        freed_.erase(oldest.base);
        freed_bytes_ -= oldest.size_bytes;
        ::munmap(pointer(oldest.base), oldest.size_bytes);
    }
}

}  // namespace simcuda
