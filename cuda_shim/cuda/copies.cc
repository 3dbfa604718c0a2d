// copies.cc - host-to-device copies: those of a weight file's bytes are recorded, all others are the driver's. See
// wrappers.h.
#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"

namespace tierd::shim::cuda {

namespace {

// Larger copies are not searched for device addresses: tables of pointers are small.
constexpr size_t kMaxTableBytes = 64u << 10;

struct Plan {
    CUdeviceptr to;
    const void* from;
    size_t bytes;
};

// What engines copy to the GPU may be addresses, for kernels that find their operands through them. Those
// allocations can be reached by launches whose parameters don't say so. What the stream itself has still to write to
// the
// source, addresses that come from the GPU and go back there, is not waited for: that would hold up each small copy.
__attribute__((no_sanitize("thread"))) void pin_stored_addresses(LaunchScope& scope, const Plan& plan) {
    const ReservedRange& range = shim().gpu.range;
    if (shim().gate.is_unused() || plan.bytes > kMaxTableBytes || plan.from == nullptr) return;
    auto* words = static_cast<const unsigned char*>(plan.from);
    for (size_t at = 0; at + sizeof(uint64_t) <= plan.bytes; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        __builtin_memcpy(&word, words + at, sizeof word);
        if (range.holds(word)) return scope.pin_bytes(plan.from, plan.bytes);
    }
}

// Whether the source is a buffer that holds what the engine read from a weight file. What the stream has still to do
// might
// write to the buffer first, so that is waited for before anybody looks.
bool is_read(const Plan& plan, const Waiter& waiting, uint32_t* file, uint64_t* offset_bytes) {
    ReadPlace place;
    uint64_t address = reinterpret_cast<uint64_t>(plan.from);
    if (!shim().reads.covers(address, plan.bytes)) return false;
    auto* query = TIERD_REAL(cuStreamQuery);
    CUstream stream = waiting.stream;
    ContextGuard guard(shim().gpu.context());
    if ((query == nullptr || query(stream) != CUDA_SUCCESS) &&
        TIERD_REAL(cuStreamSynchronize)(stream) != CUDA_SUCCESS)
        return false;
    if (!shim().reads.find(address, plan.bytes, &place)) return false;
    *file = shim().sources.know_read(place);
    *offset_bytes = place.offset_bytes;
    return *file != kNone;
}

// Whether the copy can be recorded: into an allocation that may be dropped, out of a weight file, not into a graph.
// With a
// stream, also out of a buffer that the engine read.
bool can_defer(const Plan& plan, const Waiter* waiting, uint32_t* file, uint64_t* offset_bytes) {
    const ReservedRange& range = shim().gpu.range;
    uint32_t row = range.find(plan.to);
    if (row == kNone || plan.bytes == 0) return false;
    const Allocation& allocation = range.allocation(row);
    uint64_t begin = plan.to - range.address_of(allocation.first);
    if (allocation.pinned || allocation.absent == 0 || plan.bytes > allocation.bytes - begin) return false;
    return shim().sources.find(reinterpret_cast<uint64_t>(plan.from), plan.bytes, file, offset_bytes) ||
           (waiting != nullptr && is_read(plan, *waiting, file, offset_bytes));
}

// True when the copy was carried out here. Otherwise the passage is ready for the driver's, or `*result` says why not.
bool defer_or_prepare(LaunchScope& scope, const Plan& plan, CUresult* result) {
    uint32_t file = 0;
    uint64_t offset_bytes = 0;
    *result = CUDA_SUCCESS;
    if (!scope.is_open() && !scope.is_captured() && can_defer(plan, &scope.waiting(), &file, &offset_bytes)) {
        *result = shim().gpu.defer_copy(
            {plan.to, plan.bytes, file, offset_bytes, static_cast<const char*>(plan.from)}, scope.waiting());
        shim().gpu.residency.update_gate();
        return true;
    }
    pin_stored_addresses(scope, plan);
    scope.access_range(plan.to, plan.bytes);
    *result = scope.enter();
    return *result != CUDA_SUCCESS;
}

bool is_host_address(CUdeviceptr address) {
    unsigned type = 0;
    auto* ask = TIERD_REAL(cuPointerGetAttribute);
    if (shim().gpu.range.holds(address) || ask == nullptr) return false;
    return ask(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) != CUDA_SUCCESS ||
           type == CU_MEMORYTYPE_HOST;
}

// Copies whose addresses may be anybody's.
bool defer_or_prepare_unified(LaunchScope& scope, CUdeviceptr to, CUdeviceptr from, size_t bytes,
                              CUresult* result) {
    if (!scope.is_open() && shim().gpu.range.holds(to) && is_host_address(from))
        return defer_or_prepare(scope, {to, reinterpret_cast<const void*>(from), bytes}, result);
    scope.access_range(to, bytes);
    scope.access_range(from, bytes);
    *result = scope.enter();
    return *result != CUDA_SUCCESS;
}

// A copy of rows as plans of one row each; one plan when they follow each other without gaps.
struct Rows {
    Plan first{};
    size_t count = 0;
    size_t to_step = 0;
    size_t from_step = 0;

    explicit Rows(const CUDA_MEMCPY2D& copy) {
        bool from_host =
            copy.srcMemoryType == CU_MEMORYTYPE_HOST || copy.srcMemoryType == CU_MEMORYTYPE_UNIFIED;
        bool to_gpu =
            copy.dstMemoryType == CU_MEMORYTYPE_DEVICE || copy.dstMemoryType == CU_MEMORYTYPE_UNIFIED;
        if (!from_host || !to_gpu || copy.WidthInBytes == 0 || copy.Height == 0) return;
        auto source = copy.srcMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(copy.srcHost)
                                                               : static_cast<uint64_t>(copy.srcDevice);
        from_step = copy.srcPitch != 0 ? copy.srcPitch : copy.WidthInBytes;
        to_step = copy.dstPitch != 0 ? copy.dstPitch : copy.WidthInBytes;
        source += copy.srcY * from_step + copy.srcXInBytes;
        count = copy.Height;
        first = {copy.dstDevice + copy.dstY * to_step + copy.dstXInBytes,
                 reinterpret_cast<const void*>(source), copy.WidthInBytes};
        if (from_step != first.bytes || to_step != first.bytes) return;
        first.bytes *= count;
        count = 1;
    }
    Plan operator[](size_t index) const {
        return {first.to + index * to_step, static_cast<const char*>(first.from) + index * from_step,
                first.bytes};
    }
};

// Records the copy row by row when all of it can be. Short rows are left to the driver: a record each costs more.
bool defer_rows(LaunchScope& scope, const CUDA_MEMCPY2D& copy, CUresult* result) {
    constexpr size_t kMinRowBytes = 256;
    Rows rows(copy);
    if (scope.is_open() || scope.is_captured() || rows.count == 0) return false;
    if (rows.count > 1 && rows.first.bytes < kMinRowBytes) return false;
    uint32_t file = 0;
    uint64_t offset_bytes = 0;
    Plan whole = rows.first;
    whole.bytes += (rows.count - 1) * rows.from_step;
    uint64_t last = rows[rows.count - 1].to + rows.first.bytes - 1;
    if (!can_defer(rows.first, nullptr, &file, &offset_bytes) ||
        shim().gpu.range.find(last) != shim().gpu.range.find(rows.first.to) ||
        !shim().sources.find(reinterpret_cast<uint64_t>(whole.from), whole.bytes, &file, &offset_bytes))
        return false;
    for (size_t i = 0; i < rows.count && *result == CUDA_SUCCESS; i++)
        *result = shim().gpu.defer_copy({rows[i].to, rows[i].bytes, file, offset_bytes + i * rows.from_step,
                                         static_cast<const char*>(rows[i].from)},
                                        scope.waiting());
    shim().gpu.residency.update_gate();
    return true;
}

template <class Real>
CUresult copy_2d(const Waiter& waiting, const CUDA_MEMCPY2D* copy, Real real) {
    LaunchScope scope(waiting);
    CUresult result = CUDA_SUCCESS;
    if (copy != nullptr && defer_rows(scope, *copy, &result)) return result;
    if (copy != nullptr) scope.access_bytes(copy, sizeof *copy);
    result = scope.enter();
    return result == CUDA_SUCCESS ? real() : result;
}

// All of a batch or nothing of it is recorded.
template <class Real>
CUresult copy_batch(const Waiter& waiting, CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
                    Real real) {
    LaunchScope scope(waiting);
    bool sound = to != nullptr && from != nullptr && bytes != nullptr;
    bool defer = sound && !scope.is_open() && !scope.is_captured() && count > 0;
    uint32_t file = 0;
    uint64_t offset_bytes = 0;
    for (size_t i = 0; i < count && defer; i++)
        defer = can_defer({to[i], reinterpret_cast<const void*>(from[i]), bytes[i]}, nullptr, &file,
                          &offset_bytes);
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; i < count && defer && result == CUDA_SUCCESS; i++) {
        Plan plan{to[i], reinterpret_cast<const void*>(from[i]), bytes[i]};
        can_defer(plan, nullptr, &file, &offset_bytes);
        result = shim().gpu.defer_copy(
            {plan.to, plan.bytes, file, offset_bytes, static_cast<const char*>(plan.from)}, waiting);
    }
    if (defer) {
        shim().gpu.residency.update_gate();
        return result;
    }
    for (size_t i = 0; i < count && sound; i++) {
        scope.access_range(to[i], bytes[i]);
        scope.access_range(from[i], bytes[i]);
    }
    result = scope.enter();
    return result == CUDA_SUCCESS ? real() : result;
}

}  // namespace

namespace own {

CUresult cuMemcpyHtoD_v2(TIERD_CALL(cuMemcpyHtoD_v2), CUdeviceptr to, const void* from, size_t bytes) {
    LaunchScope scope(no_stream(call.per_thread));
    CUresult result = CUDA_SUCCESS;
    return defer_or_prepare(scope, {to, from, bytes}, &result) ? result : call.real(to, from, bytes);
}

CUresult cuMemcpyHtoDAsync_v2(TIERD_CALL(cuMemcpyHtoDAsync_v2), CUdeviceptr to, const void* from,
                              size_t bytes, CUstream stream) {
    LaunchScope scope(stream_of(stream, call.per_thread));
    CUresult result = CUDA_SUCCESS;
    return defer_or_prepare(scope, {to, from, bytes}, &result) ? result : call.real(to, from, bytes, stream);
}

CUresult cuMemcpy(TIERD_CALL(cuMemcpy), CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    LaunchScope scope(no_stream(call.per_thread));
    CUresult result = CUDA_SUCCESS;
    return defer_or_prepare_unified(scope, to, from, bytes, &result) ? result : call.real(to, from, bytes);
}

CUresult cuMemcpyAsync(TIERD_CALL(cuMemcpyAsync), CUdeviceptr to, CUdeviceptr from, size_t bytes,
                       CUstream stream) {
    LaunchScope scope(stream_of(stream, call.per_thread));
    CUresult result = CUDA_SUCCESS;
    return defer_or_prepare_unified(scope, to, from, bytes, &result) ? result
                                                                     : call.real(to, from, bytes, stream);
}

CUresult cuMemcpy2D_v2(TIERD_CALL(cuMemcpy2D_v2), const CUDA_MEMCPY2D* copy) {
    return copy_2d(no_stream(call.per_thread), copy, [&] { return call.real(copy); });
}

CUresult cuMemcpy2DUnaligned_v2(TIERD_CALL(cuMemcpy2DUnaligned_v2), const CUDA_MEMCPY2D* copy) {
    return copy_2d(no_stream(call.per_thread), copy, [&] { return call.real(copy); });
}

CUresult cuMemcpy2DAsync_v2(TIERD_CALL(cuMemcpy2DAsync_v2), const CUDA_MEMCPY2D* copy, CUstream stream) {
    return copy_2d(stream_of(stream, call.per_thread), copy, [&] { return call.real(copy, stream); });
}

CUresult cuMemcpyBatchAsync(TIERD_CALL(cuMemcpyBatchAsync), CUdeviceptr* to, CUdeviceptr* from, size_t* bytes,
                            size_t count, CUmemcpyAttributes* attributes, size_t* attribute_indices,
                            size_t attribute_count, size_t* failed, CUstream stream) {
    return copy_batch(stream_of(stream, call.per_thread), to, from, bytes, count, [&] {
        return call.real(to, from, bytes, count, attributes, attribute_indices, attribute_count, failed,
                         stream);
    });
}

CUresult cuMemcpyBatchAsync_v2(TIERD_CALL(cuMemcpyBatchAsync_v2), CUdeviceptr* to, CUdeviceptr* from,
                               size_t* bytes, size_t count, CUmemcpyAttributes* attributes,
                               size_t* attribute_indices, size_t attribute_count, CUstream stream) {
    return copy_batch(stream_of(stream, call.per_thread), to, from, bytes, count, [&] {
        return call.real(to, from, bytes, count, attributes, attribute_indices, attribute_count, stream);
    });
}

}  // namespace own

}  // namespace tierd::shim::cuda
