// other_ways.cc - a driver-API program that copies, allocates, launches and asks in the ways that engines seldom take, and looks
// at every byte that comes of it. It knows nothing of the preloaded library.
//
//   other_ways WEIGHTS primary|own   WEIGHTS: at least 8 MiB; the second word: which context it works in, and ends
//
// Prints a line for each way; exit status 2 when a call fails that has to succeed.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/cuda/driver_call.h"

namespace {

constexpr size_t kBytes = 4u << 20;
constexpr size_t kRow = 4096, kFromPitch = 8192, kToPitch = 12288, kRows = 300;

using Bytes = std::vector<uint8_t>;

struct Scene {
    const uint8_t* weights = nullptr;  // of the file, mapped
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    CUfunction scramble = nullptr;
    CUdeviceptr to = 0;  // kBytes
};

Bytes read_back(CUdeviceptr from, size_t bytes) {
    Bytes seen(bytes);
    OK(cuMemcpyDtoH_v2(seen.data(), from, bytes));
    return seen;
}

void tell(const char* way, const Bytes& seen, const Bytes& expected) {
    size_t at = 0;
    while (at < expected.size() && at < seen.size() && seen[at] == expected[at]) at++;
    if (seen == expected)
        std::printf("%s: right\n", way);
    else
        std::printf("%s: wrong from byte %zu on\n", way, at);
}

void empty(const Scene& scene) {
    OK(cuMemsetD8_v2(scene.to, 0, kBytes));
    OK(cuCtxSynchronize());  // the stream does not wait for the default one
}

CUDA_MEMCPY2D rows_of(const Scene& scene, size_t row_bytes, size_t from_pitch, size_t to_pitch) {
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = scene.weights;
    copy.srcXInBytes = 512;
    copy.srcY = 1;
    copy.srcPitch = from_pitch;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = scene.to;
    copy.dstXInBytes = 256;
    copy.dstY = 2;
    copy.dstPitch = to_pitch;
    copy.WidthInBytes = row_bytes;
    copy.Height = kRows;
    return copy;
}

Bytes rows_expected(const Scene& scene, const CUDA_MEMCPY2D& copy) {
    Bytes expected(kBytes, 0);
    for (size_t row = 0; row < copy.Height; row++)
        std::memcpy(&expected[(copy.dstY + row) * copy.dstPitch + copy.dstXInBytes],
                    scene.weights + (copy.srcY + row) * copy.srcPitch + copy.srcXInBytes, copy.WidthInBytes);
    return expected;
}

template <class Copy>
void copies_rows(const char* way, const Scene& scene, const CUDA_MEMCPY2D& copy, Copy call) {
    empty(scene);
    OK(call(&copy));
    OK(cuStreamSynchronize(scene.stream));
    tell(way, read_back(scene.to, kBytes), rows_expected(scene, copy));
}

void copies_in_rows(const Scene& scene) {
    auto now = [](const CUDA_MEMCPY2D* copy) { return cuMemcpy2D_v2(copy); };
    copies_rows("rows", scene, rows_of(scene, kRow, kFromPitch, kToPitch), now);
    copies_rows("rows without gaps", scene, rows_of(scene, kRow, kRow, kRow), now);
    copies_rows("short rows", scene, rows_of(scene, 64, kFromPitch, kToPitch), now);
    copies_rows("rows, unaligned", scene, rows_of(scene, kRow, kFromPitch, kToPitch),
                [](const CUDA_MEMCPY2D* copy) { return cuMemcpy2DUnaligned_v2(copy); });
    copies_rows("rows, on a stream", scene, rows_of(scene, kRow, kFromPitch, kToPitch),
                [&](const CUDA_MEMCPY2D* copy) { return cuMemcpy2DAsync_v2(copy, scene.stream); });
    // What a program wrote itself is no file's.
    Bytes own(scene.weights, scene.weights + kBytes);
    for (uint8_t& byte : own) byte ^= 1;
    Scene other = scene;
    other.weights = own.data();
    copies_rows("rows of a buffer", other, rows_of(other, kRow, kFromPitch, kToPitch), now);

    CUDA_MEMCPY2D back{};
    Bytes seen(kRows * kRow, 0), expected;
    back.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    back.srcDevice = scene.to;
    back.srcPitch = kToPitch;
    back.dstMemoryType = CU_MEMORYTYPE_HOST;
    back.dstHost = seen.data();
    back.dstPitch = kRow;
    back.WidthInBytes = kRow;
    back.Height = kRows;
    OK(cuMemcpy2D_v2(&back));
    Bytes whole = read_back(scene.to, kBytes);
    for (size_t row = 0; row < kRows; row++)
        expected.insert(expected.end(), &whole[row * kToPitch], &whole[row * kToPitch] + kRow);
    tell("rows back", seen, expected);
}

void copies_plainly(const Scene& scene) {
    const Bytes expected(scene.weights + 100, scene.weights + 100 + kBytes);
    auto from = reinterpret_cast<CUdeviceptr>(scene.weights + 100);
    empty(scene);
    OK(cuMemcpy(scene.to, from, kBytes));
    tell("any to any", read_back(scene.to, kBytes), expected);
    empty(scene);
    OK(cuMemcpyAsync(scene.to, from, kBytes, scene.stream));
    OK(cuStreamSynchronize(scene.stream));
    tell("any to any, on a stream", read_back(scene.to, kBytes), expected);
    Bytes seen(kBytes);
    OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(seen.data()), scene.to, kBytes));
    tell("any to any, back", seen, expected);
}

void copies_in_batches(const Scene& scene) {
    constexpr size_t kPart = 1u << 20;
    Bytes expected(kBytes, 0), own(kPart, 77);
    std::memcpy(&expected[0], scene.weights + kPart, kPart);
    std::memcpy(&expected[2 * kPart], scene.weights + 3 * kPart, kPart);
    CUdeviceptr to[] = {scene.to, scene.to + 2 * kPart, scene.to + 3 * kPart};
    CUdeviceptr from[] = {reinterpret_cast<CUdeviceptr>(scene.weights + kPart),
                          reinterpret_cast<CUdeviceptr>(scene.weights + 3 * kPart),
                          reinterpret_cast<CUdeviceptr>(own.data())};
    size_t bytes[] = {kPart, kPart, kPart}, first = 0, failed = 0;
    CUmemcpyAttributes attributes{};
    attributes.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    for (size_t count : {2, 3}) {
        if (count == 3) std::memcpy(&expected[3 * kPart], own.data(), kPart);
        empty(scene);
        OK(cuMemcpyBatchAsync_v2(to, from, bytes, count, &attributes, &first, 1, scene.stream));
        OK(cuStreamSynchronize(scene.stream));
        tell("a batch", read_back(scene.to, kBytes), expected);
        empty(scene);
        OK(cuMemcpyBatchAsync(to, from, bytes, count, &attributes, &first, 1, &failed, scene.stream));
        OK(cuStreamSynchronize(scene.stream));
        tell("a batch, as of CUDA 12.8", read_back(scene.to, kBytes), expected);
    }
}

void launches(const Scene& scene) {
    CUdeviceptr out = 0, from = 0;
    OK(cuMemAlloc_v2(&out, kBytes));
    OK(cuMemAlloc_v2(&from, kBytes));
    uint64_t count = kBytes;
    unsigned char salt = 0;
    void* parameters[] = {&from, &out, &count, &salt};
    auto run = [&](const char* way, auto launch) {
        salt++;
        OK(cuMemcpyHtoD_v2(from, scene.weights, kBytes));
        CUresult result = launch();
        if (result == CUDA_ERROR_NOT_SUPPORTED) {
            std::printf("%s: not supported\n", way);
            return;
        }
        OK(result);
        OK(cuStreamSynchronize(scene.stream));
        Bytes expected(scene.weights, scene.weights + kBytes);
        for (uint8_t& byte : expected) byte = static_cast<uint8_t>(byte * 31 + salt);
        tell(way, read_back(out, kBytes), expected);
    };
    run("a launch", [&] {
        return cuLaunchKernel(scene.scramble, 1, 1, 1, 1, 1, 1, 0, scene.stream, parameters, nullptr);
    });
    run("a launch, configured", [&] {
        CUlaunchConfig config{};
        config.gridDimX = config.gridDimY = config.gridDimZ = 1;
        config.blockDimX = config.blockDimY = config.blockDimZ = 1;
        config.hStream = scene.stream;
        return cuLaunchKernelEx(&config, scene.scramble, parameters, nullptr);
    });
    run("a launch, cooperative", [&] {
        return cuLaunchCooperativeKernel(scene.scramble, 1, 1, 1, 1, 1, 1, 0, scene.stream, parameters);
    });
    OK(cuMemFree_v2(from));
    OK(cuMemFree_v2(out));
}

void allocates(const Scene& scene) {
    CUdeviceptr memory = 0;
    size_t pitch = 0;
    OK(cuMemAllocPitch_v2(&memory, &pitch, 5000, 400, 16));
    std::printf("pitch: %s\n", pitch >= 5000 && pitch % 256 == 0 ? "aligned" : "wrong");
    OK(cuMemsetD2D8_v2(memory, pitch, 9, 5000, 400));
    Bytes seen = read_back(memory + 399 * pitch, 5000);
    tell("pitched memory", seen, Bytes(5000, 9));
    OK(cuMemFree_v2(memory));

    CUmemoryPool pool = nullptr;
    OK(cuDeviceGetDefaultMemPool(&pool, 0));
    OK(cuMemAllocFromPoolAsync(&memory, kBytes, pool, scene.stream));
    OK(cuMemcpyHtoDAsync_v2(memory, scene.weights, kBytes, scene.stream));
    OK(cuStreamSynchronize(scene.stream));
    tell("a pool's memory", read_back(memory, kBytes), Bytes(scene.weights, scene.weights + kBytes));
    OK(cuMemFreeAsync(memory, scene.stream));
    OK(cuStreamSynchronize(scene.stream));
}

void asks(const Scene& scene) {
    CUdeviceptr base = 0, inside = scene.to + 12345;
    size_t bytes = 0;
    OK(cuMemGetAddressRange_v2(&base, &bytes, inside));
    std::printf("range: %d %zu\n", base == scene.to, bytes);
    unsigned type = 0, managed = 7, sync = 1;
    CUdeviceptr start = 0, device_pointer = 0;
    size_t size = 0;
    CUcontext context = nullptr;
    int ordinal = -1;
    CUpointer_attribute attributes[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,      CU_POINTER_ATTRIBUTE_IS_MANAGED,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        CU_POINTER_ATTRIBUTE_DEVICE_POINTER,   CU_POINTER_ATTRIBUTE_CONTEXT,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void* answers[] = {&type, &managed, &start, &size, &device_pointer, &context, &ordinal};
    OK(cuPointerGetAttributes(std::size(attributes), attributes, answers, inside));
    std::printf("attributes: %u %u %d %zu %d %d %d\n", type, managed, start == scene.to, size,
                device_pointer == inside, context == scene.context, ordinal);
    for (CUpointer_attribute one : attributes) {
        uint64_t answer[2] = {};
        std::printf("attribute %d: error %d\n", one,
                    static_cast<int>(cuPointerGetAttribute(answer, one, inside)));
    }
    std::printf("synchronous copies: error %d\n",
                static_cast<int>(cuPointerSetAttribute(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, scene.to)));
    int local = 0;
    std::printf(
        "no memory of the GPU: error %d\n",
        static_cast<int>(cuMemGetAddressRange_v2(&base, &bytes, reinterpret_cast<CUdeviceptr>(&local))));
}

void forks() {
    pid_t pid = ::fork();
    if (pid == 0) ::_exit(3);
    int status = 0;
    ::waitpid(pid, &status, 0);
    std::printf("a child: %d\n", WEXITSTATUS(status));
}

void work(Scene& scene) {
    CUmodule module = nullptr;
    OK(cuModuleLoad(&module, std::getenv("TEST_KERNELS")));
    OK(cuModuleGetFunction(&scene.scramble, module, "scramble"));
    OK(cuStreamCreate(&scene.stream, CU_STREAM_NON_BLOCKING));
    OK(cuMemAlloc_v2(&scene.to, kBytes));
    copies_plainly(scene);
    copies_in_rows(scene);
    copies_in_batches(scene);
    launches(scene);
    allocates(scene);
    asks(scene);
    forks();
    // What is copied now is on nobody's mind when the context ends.
    OK(cuMemcpyHtoD_v2(scene.to, scene.weights, kBytes));
}

void works_again(const Scene& scene) {
    CUdeviceptr memory = 0;
    OK(cuMemAlloc_v2(&memory, kBytes));
    OK(cuMemcpyHtoD_v2(memory, scene.weights, kBytes));
    tell("in the next context", read_back(memory, kBytes), Bytes(scene.weights, scene.weights + kBytes));
    OK(cuMemFree_v2(memory));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const bool primary = std::string(argv[2]) == "primary";
    int fd = ::open(argv[1], O_RDONLY | O_CLOEXEC);
    void* mapped = ::mmap(nullptr, 2 * kBytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED) return 2;
    Scene scene;
    scene.weights = static_cast<const uint8_t*>(mapped);
    OK(cuInit(0));
    if (primary) {
        OK(cuDevicePrimaryCtxRetain(&scene.context, 0));
        OK(cuCtxSetCurrent(scene.context));
        work(scene);
        OK(cuDevicePrimaryCtxRelease_v2(0));
        OK(cuDevicePrimaryCtxRetain(&scene.context, 0));
        OK(cuCtxSetCurrent(scene.context));
        works_again(scene);
        OK(cuDevicePrimaryCtxReset_v2(0));
    } else {
        OK(cuCtxCreate_v4(&scene.context, nullptr, 0, 0));
        work(scene);
        OK(cuCtxDestroy_v2(scene.context));
        OK(cuCtxCreate_v4(&scene.context, nullptr, 0, 0));
        works_again(scene);
        OK(cuCtxDestroy_v2(scene.context));
    }
    std::printf("ended\n");
    return 0;
}
