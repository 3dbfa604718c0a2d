// api_copy.cc - copies and fills. Unified addressing: an address says by itself whether it is the GPU's.
//
// As documented: a call without Async returns when the copy is done, except from device to device; an asynchronous one
// from pageable memory has read its source when it returns, one to pageable memory is done when it returns, and one
// between the GPU and pinned memory happens later, when the stream gets there.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstring>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/operation.h"

using namespace simcuda;

namespace {

constexpr uint64_t kStagedBytes = 64 << 10;  // longer pageable sources are waited for instead

enum class Wait { no, yes };
enum class Side { any, gpu };  // GPU: the call's name says so

struct Call {
    const char* name;
    Default stream_of_zero = Default::legacy;
    CUstream stream = nullptr;
    Wait wait = Wait::yes;
    Side to = Side::any, from = Side::any;
};

uint64_t at(const void* host) {
    return reinterpret_cast<uint64_t>(host);
}

CopyOp linear(uint64_t to, uint64_t from, uint64_t bytes) {
    CopyOp op;
    op.to.address = to;
    op.from.address = from;
    op.width_bytes = bytes;
    return op;
}

CUresult refuse_sides(const Call& call, const CopyOp& op) {
    if (call.to == Side::gpu && op.to.place == Place::pageable)
        return misuse(CUDA_ERROR_INVALID_VALUE, "the destination {:#x} is plain host memory", op.to.address);
    if (call.from == Side::gpu && op.from.place == Place::pageable)
        return misuse(CUDA_ERROR_INVALID_VALUE, "the source {:#x} is plain host memory", op.from.address);
    return CUDA_SUCCESS;
}

bool must_wait(const Call& call, const CopyOp& op) {
    bool host = op.to.place != Place::device || op.from.place != Place::device;
    if (call.wait == Wait::yes) return host;
    return op.to.place == Place::pageable || (op.from.place == Place::pageable && !op.staged);
}

bool is_capturing(Context& c, Stream& s) {
    std::lock_guard lock(c.order);
    return s.capture != nullptr;
}

void stage(CopyOp& op) {
    if (op.from.place != Place::pageable || op.height * op.depth != 1 || op.bytes() > kStagedBytes) return;
    auto* first = reinterpret_cast<const std::byte*>(op.from.address);
    op.staged = std::make_shared<std::vector<std::byte>>(first, first + op.bytes());
    op.from.address = reinterpret_cast<uint64_t>(op.staged->data());
}

CUresult copy(const Call& call, CopyOp op) {
    return on_stream(
        call.name, call.stream, call.stream_of_zero, [&](Driver& d, Context& c, Stream& s) -> CUresult {
            if (op.bytes() == 0) return CUDA_SUCCESS;
            if (CUresult bad = check_copy(d, op); bad != CUDA_SUCCESS) return bad;
            if (CUresult bad = refuse_sides(call, op); bad != CUDA_SUCCESS) return bad;
            if (is_capturing(c, s)) {
                if (call.wait == Wait::yes) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
                return submit(d, c, s, std::move(op), nullptr);
            }
            if (call.wait == Wait::no) stage(op);
            bool wait = must_wait(call, op);
            return wait ? submit_and_wait(d, c, s, std::move(op)) : submit(d, c, s, std::move(op), nullptr);
        });
}

CUresult copy_3d(const Call& call, const CUDA_MEMCPY3D& p) {
    CopyOp op;
    if (!copy_op_of(p, &op)) return CUDA_ERROR_NOT_SUPPORTED;
    if (op.to.pitch_bytes < op.width_bytes || op.from.pitch_bytes < op.width_bytes) {
        CallName name(call.name);
        return misuse(CUDA_ERROR_INVALID_VALUE, "rows of {} bytes, {} and {} apart", op.width_bytes,
                      op.to.pitch_bytes, op.from.pitch_bytes);
    }
    return copy(call, op);
}

CUresult copy_2d(const Call& call, const CUDA_MEMCPY2D& p) {
    CUDA_MEMCPY3D flat = {};
    flat.srcXInBytes = p.srcXInBytes;
    flat.srcY = p.srcY;
    flat.srcMemoryType = p.srcMemoryType;
    flat.srcHost = p.srcHost;
    flat.srcDevice = p.srcDevice;
    flat.srcPitch = p.srcPitch;
    flat.dstXInBytes = p.dstXInBytes;
    flat.dstY = p.dstY;
    flat.dstMemoryType = p.dstMemoryType;
    flat.dstHost = p.dstHost;
    flat.dstDevice = p.dstDevice;
    flat.dstPitch = p.dstPitch;
    flat.WidthInBytes = p.WidthInBytes;
    flat.Height = p.Height;
    flat.Depth = 1;
    return copy_3d(call, flat);
}

CUresult copy_batch(const char* name, const CUdeviceptr* to, const CUdeviceptr* from, const size_t* bytes,
                    size_t count, CUstream stream, Default which) {
    for (size_t i = 0; i < count; ++i) {
        CUresult result = copy({name, which, stream, Wait::no}, linear(to[i], from[i], bytes[i]));
        if (result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
}

FillOp fill_of(uint64_t address, uint64_t pitch, uint32_t value, uint32_t element_bytes, uint64_t width,
               uint64_t height) {
    FillOp op;
    op.address = address;
    op.pitch_bytes = pitch;
    op.value = value;
    op.element_bytes = element_bytes;
    op.width = width;
    op.height = height;
    return op;
}

CUresult fill(const Call& call, FillOp op) {
    return on_stream(call.name, call.stream, call.stream_of_zero,
                     [&](Driver& d, Context& c, Stream& s) -> CUresult {
                         if (op.extent_bytes() == 0) return CUDA_SUCCESS;
                         if (op.height > 1 && op.pitch_bytes < op.width * op.element_bytes)
                             return misuse(CUDA_ERROR_INVALID_VALUE, "rows of {} elements, {} bytes apart",
                                           op.width, op.pitch_bytes);
                         if (CUresult bad = check_fill(d, op); bad != CUDA_SUCCESS) return bad;
                         return submit(d, c, s, op, nullptr);
                     });
}

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

}  // namespace

// Each pair is one function for the legacy default stream and one for the thread's own.
#define SIMCUDA_PAIR(name, suffix, params, ...)                 \
    CUresult CUDAAPI name params {                              \
        [[maybe_unused]] constexpr Default kWhich = kLegacy;    \
        return __VA_ARGS__;                                     \
    }                                                           \
    CUresult CUDAAPI name##suffix params {                      \
        [[maybe_unused]] constexpr Default kWhich = kPerThread; \
        return __VA_ARGS__;                                     \
    }

SIMCUDA_PAIR(cuMemcpy, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t n),
             copy({"cuMemcpy", kWhich}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpyAsync, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s),
             copy({"cuMemcpyAsync", kWhich, s, Wait::no}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpyHtoD_v2, _ptds, (CUdeviceptr to, const void* from, size_t n),
             copy({"cuMemcpyHtoD", kWhich, nullptr, Wait::yes, Side::gpu}, linear(to, at(from), n)))
SIMCUDA_PAIR(cuMemcpyDtoH_v2, _ptds, (void* to, CUdeviceptr from, size_t n),
             copy({"cuMemcpyDtoH", kWhich, nullptr, Wait::yes, Side::any, Side::gpu},
                  linear(at(to), from, n)))
SIMCUDA_PAIR(cuMemcpyDtoD_v2, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t n),
             copy({"cuMemcpyDtoD", kWhich, nullptr, Wait::yes, Side::gpu, Side::gpu}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpyHtoDAsync_v2, _ptsz, (CUdeviceptr to, const void* from, size_t n, CUstream s),
             copy({"cuMemcpyHtoDAsync", kWhich, s, Wait::no, Side::gpu}, linear(to, at(from), n)))
SIMCUDA_PAIR(cuMemcpyDtoHAsync_v2, _ptsz, (void* to, CUdeviceptr from, size_t n, CUstream s),
             copy({"cuMemcpyDtoHAsync", kWhich, s, Wait::no, Side::any, Side::gpu}, linear(at(to), from, n)))
SIMCUDA_PAIR(cuMemcpyDtoDAsync_v2, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s),
             copy({"cuMemcpyDtoDAsync", kWhich, s, Wait::no, Side::gpu, Side::gpu}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpyPeer, _ptds, (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n),
             copy({"cuMemcpyPeer", kWhich, nullptr, Wait::yes, Side::gpu, Side::gpu}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpyPeerAsync, _ptsz,
             (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n, CUstream s),
             copy({"cuMemcpyPeerAsync", kWhich, s, Wait::no, Side::gpu, Side::gpu}, linear(to, from, n)))
SIMCUDA_PAIR(cuMemcpy2D_v2, _ptds, (const CUDA_MEMCPY2D* p), copy_2d({"cuMemcpy2D", kWhich}, *p))
SIMCUDA_PAIR(cuMemcpy2DUnaligned_v2, _ptds, (const CUDA_MEMCPY2D* p),
             copy_2d({"cuMemcpy2DUnaligned", kWhich}, *p))
SIMCUDA_PAIR(cuMemcpy2DAsync_v2, _ptsz, (const CUDA_MEMCPY2D* p, CUstream s),
             copy_2d({"cuMemcpy2DAsync", kWhich, s, Wait::no}, *p))
SIMCUDA_PAIR(cuMemcpy3D_v2, _ptds, (const CUDA_MEMCPY3D* p), copy_3d({"cuMemcpy3D", kWhich}, *p))
SIMCUDA_PAIR(cuMemcpy3DAsync_v2, _ptsz, (const CUDA_MEMCPY3D* p, CUstream s),
             copy_3d({"cuMemcpy3DAsync", kWhich, s, Wait::no}, *p))
SIMCUDA_PAIR(cuMemcpyBatchAsync_v2, _ptsz,
             (CUdeviceptr * to, CUdeviceptr* from, size_t* n, size_t count, CUmemcpyAttributes*, size_t*,
              size_t, CUstream s),
             copy_batch("cuMemcpyBatchAsync", to, from, n, count, s, kWhich))
SIMCUDA_PAIR(cuMemcpyBatchAsync, _ptsz,
             (CUdeviceptr * to, CUdeviceptr* from, size_t* n, size_t count, CUmemcpyAttributes*, size_t*,
              size_t, size_t*, CUstream s),
             copy_batch("cuMemcpyBatchAsync", to, from, n, count, s, kWhich))

SIMCUDA_PAIR(cuMemsetD8_v2, _ptds, (CUdeviceptr to, unsigned char v, size_t n),
             fill({"cuMemsetD8", kWhich}, fill_of(to, 0, v, 1, n, 1)))
SIMCUDA_PAIR(cuMemsetD16_v2, _ptds, (CUdeviceptr to, unsigned short v, size_t n),
             fill({"cuMemsetD16", kWhich}, fill_of(to, 0, v, 2, n, 1)))
SIMCUDA_PAIR(cuMemsetD32_v2, _ptds, (CUdeviceptr to, unsigned int v, size_t n),
             fill({"cuMemsetD32", kWhich}, fill_of(to, 0, v, 4, n, 1)))
SIMCUDA_PAIR(cuMemsetD2D8_v2, _ptds, (CUdeviceptr to, size_t pitch, unsigned char v, size_t w, size_t h),
             fill({"cuMemsetD2D8", kWhich}, fill_of(to, pitch, v, 1, w, h)))
SIMCUDA_PAIR(cuMemsetD2D16_v2, _ptds, (CUdeviceptr to, size_t pitch, unsigned short v, size_t w, size_t h),
             fill({"cuMemsetD2D16", kWhich}, fill_of(to, pitch, v, 2, w, h)))
SIMCUDA_PAIR(cuMemsetD2D32_v2, _ptds, (CUdeviceptr to, size_t pitch, unsigned int v, size_t w, size_t h),
             fill({"cuMemsetD2D32", kWhich}, fill_of(to, pitch, v, 4, w, h)))
SIMCUDA_PAIR(cuMemsetD8Async, _ptsz, (CUdeviceptr to, unsigned char v, size_t n, CUstream s),
             fill({"cuMemsetD8Async", kWhich, s}, fill_of(to, 0, v, 1, n, 1)))
SIMCUDA_PAIR(cuMemsetD16Async, _ptsz, (CUdeviceptr to, unsigned short v, size_t n, CUstream s),
             fill({"cuMemsetD16Async", kWhich, s}, fill_of(to, 0, v, 2, n, 1)))
SIMCUDA_PAIR(cuMemsetD32Async, _ptsz, (CUdeviceptr to, unsigned int v, size_t n, CUstream s),
             fill({"cuMemsetD32Async", kWhich, s}, fill_of(to, 0, v, 4, n, 1)))
SIMCUDA_PAIR(cuMemsetD2D8Async, _ptsz,
             (CUdeviceptr to, size_t pitch, unsigned char v, size_t w, size_t h, CUstream s),
             fill({"cuMemsetD2D8Async", kWhich, s}, fill_of(to, pitch, v, 1, w, h)))
SIMCUDA_PAIR(cuMemsetD2D16Async, _ptsz,
             (CUdeviceptr to, size_t pitch, unsigned short v, size_t w, size_t h, CUstream s),
             fill({"cuMemsetD2D16Async", kWhich, s}, fill_of(to, pitch, v, 2, w, h)))
SIMCUDA_PAIR(cuMemsetD2D32Async, _ptsz,
             (CUdeviceptr to, size_t pitch, unsigned int v, size_t w, size_t h, CUstream s),
             fill({"cuMemsetD2D32Async", kWhich, s}, fill_of(to, pitch, v, 4, w, h)))
