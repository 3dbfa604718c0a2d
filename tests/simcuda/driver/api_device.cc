// api_device.cc - start-up, the one device, its attributes, and names of errors.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "tests/simcuda/driver/entry.h"

using namespace simcuda;

namespace {

constexpr char kName[] = "simulated CUDA device";

bool is_device(CUdevice device) {
    return device == 0;
}

// A GPU of compute capability 9.0; what is not in the table is 0: not there.
int attribute_of(CUdevice_attribute attribute) {
    static const std::map<CUdevice_attribute, int> kTable = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
        {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {CU_DEVICE_ATTRIBUTE_MAX_PITCH, 2147483647},
        {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
        {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 4096},
        {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
        {CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 32 << 20},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
        {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
        {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
        {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
        {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
        {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
        {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0},
        {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
    };
    auto it = kTable.find(attribute);
    return it == kTable.end() ? 0 : it->second;
}

struct ErrorText {
    const char* name;
    const char* text;
};

const std::map<CUresult, ErrorText>& errors() {
#define SIMCUDA_ERROR(code, text) \
    {                             \
        code, {                   \
            #code, text           \
        }                         \
    }
    static const std::map<CUresult, ErrorText> kTable = {
        SIMCUDA_ERROR(CUDA_SUCCESS, "no error"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
        SIMCUDA_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
        SIMCUDA_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
        SIMCUDA_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
        SIMCUDA_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
        SIMCUDA_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU,
                      "no kernel image is available for execution on the device"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
        SIMCUDA_ERROR(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
        SIMCUDA_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
        SIMCUDA_ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
        SIMCUDA_ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
        SIMCUDA_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
        SIMCUDA_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
        SIMCUDA_ERROR(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process"),
        SIMCUDA_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
        SIMCUDA_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
                      "part or all of the requested memory range is already mapped"),
        SIMCUDA_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
                      "pointer does not correspond to a registered memory region"),
        SIMCUDA_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
        SIMCUDA_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
        SIMCUDA_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
        SIMCUDA_ERROR(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED,
                      "peer access is not supported between these two devices"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                      "operation not permitted when stream is capturing"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
                      "operation failed due to a previous error during capture"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
                      "capture was not ended in the same stream as it began"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                      "dependency created on uncaptured work in another stream"),
        SIMCUDA_ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                      "operation would make the legacy stream depend on a capturing blocking stream"),
        SIMCUDA_ERROR(CUDA_ERROR_CAPTURED_EVENT,
                      "operation not permitted on an event last recorded in a capturing stream"),
        SIMCUDA_ERROR(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
                      "the graph update was not performed because it included changes which violated "
                      "constraints specific to instantiated graph update"),
        SIMCUDA_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
    };
#undef SIMCUDA_ERROR
    return kTable;
}

CUresult error_text(CUresult error, const char** out, const char* ErrorText::* part) {
    auto it = errors().find(error);
    *out = it == errors().end() ? nullptr : it->second.*part;
    return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

template <class Body>
CUresult on_device(const char* name, CUdevice device, Body body) {
    return entry(name, [&](Driver& d) { return is_device(device) ? body(d) : CUDA_ERROR_INVALID_DEVICE; });
}

}  // namespace

CUresult CUDAAPI cuInit(unsigned int flags) {
    CallName call("cuInit");
    if (flags) return misuse(CUDA_ERROR_INVALID_VALUE, "flags must be 0, not {}", flags);
    return start_driver();
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** out) {
    return error_text(error, out, &ErrorText::name);
}
CUresult CUDAAPI cuGetErrorString(CUresult error, const char** out) {
    return error_text(error, out, &ErrorText::text);
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
    return entry("cuDeviceGetCount", [&](Driver&) { return *count = 1, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
    return on_device("cuDeviceGet", ordinal, [&](Driver&) { return *device = 0, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuDeviceGetName(char* name, int len, CUdevice device) {
    return on_device("cuDeviceGetName", device, [&](Driver&) {
        if (len <= 0) return CUDA_ERROR_INVALID_VALUE;
        size_t count = std::min<size_t>(sizeof kName - 1, static_cast<size_t>(len) - 1);
        std::memcpy(name, kName, count);
        name[count] = 0;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    return on_device("cuDeviceGetUuid", device, [&](Driver&) {
        std::memcpy(uuid->bytes, "simulated GPU 0", sizeof uuid->bytes);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    return cuDeviceGetUuid_v2(uuid, device);
}
CUresult CUDAAPI cuDeviceGetPCIBusId(char* id, int len, CUdevice device) {
    return on_device("cuDeviceGetPCIBusId", device, [&](Driver&) {
        constexpr char kId[] = "0000:00:00.0";
        if (len < static_cast<int>(sizeof kId)) return CUDA_ERROR_INVALID_VALUE;
        std::memcpy(id, kId, sizeof kId);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    return on_device("cuDeviceTotalMem", device,
                     [&](Driver& d) { return *bytes = d.gpu->total_bytes(), CUDA_SUCCESS; });
}
CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    return on_device("cuDeviceGetAttribute", device, [&](Driver&) {
        if (attribute <= 0 || attribute >= CU_DEVICE_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
        *value = attribute_of(attribute);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
    return on_device("cuDeviceComputeCapability", device,
                     [&](Driver&) { return *major = 9, *minor = 0, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
    return on_device("cuDeviceCanAccessPeer", device, [&](Driver&) {
        if (!is_device(peer)) return CUDA_ERROR_INVALID_DEVICE;
        *can = 0;
        return CUDA_SUCCESS;
    });
}
