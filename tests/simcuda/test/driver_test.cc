// driver_test.cc - the simulated driver does what the documentation says a driver does.
#define BOOST_TEST_MODULE simcuda_driver
#include <cuda.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/simcuda/test/gpu.h"

using namespace simcuda_test;

namespace {

constexpr size_t kMiB = 1 << 20;
constexpr size_t kChunk = 2 * kMiB;

struct OneGpu {
    OneGpu() {
        ::setenv("SIMCUDA_MEMORY", "64MiB", 1);
        ::setenv("SIMCUDA_POISON", "1", 1);
        ok(cuInit(0));
        ok(cuDevicePrimaryCtxRetain(&context, 0));
        ok(cuCtxSetCurrent(context));
        ok(cuModuleLoad(&module, TEST_KERNELS));
    }
    CUfunction function(const char* name) const {
        CUfunction f = nullptr;
        ok(cuModuleGetFunction(&f, module, name));
        return f;
    }
    CUcontext context = nullptr;
    CUmodule module = nullptr;
};

OneGpu& gpu() {
    static OneGpu one;
    return one;
}

struct Fixture {
    Fixture() { ok(cuCtxSetCurrent(gpu().context)); }
};

size_t free_bytes() {
    size_t free = 0, total = 0;
    ok(cuMemGetInfo(&free, &total));
    return free;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(driver, Fixture)

BOOST_AUTO_TEST_CASE(a_kernel_computes_on_copied_memory) {
    std::vector<float> in(1000, 41.0f), out(1000);
    CUdeviceptr from = 0, to = 0;
    ok(cuMemAlloc(&from, in.size() * 4));
    ok(cuMemAlloc(&to, in.size() * 4));
    ok(cuMemcpyHtoD(from, in.data(), in.size() * 4));
    int count = 1000;
    void* params[] = {&from, &to, &count};
    ok(cuLaunchKernel(gpu().function("add_one"), 8, 1, 1, 128, 1, 1, 0, nullptr, params, nullptr));
    ok(cuMemcpyDtoH(out.data(), to, out.size() * 4));
    BOOST_TEST(out[0] == 42.0f);
    BOOST_TEST(out[999] == 42.0f);
    ok(cuMemFree(from));
    ok(cuMemFree(to));
}

BOOST_AUTO_TEST_CASE(parameters_are_described_and_laid_out_as_the_compiler_lays_them_out) {
    CUfunction f = gpu().function("mixed");
    size_t offsets[5], sizes[5];
    for (size_t i = 0; i < 5; ++i) ok(cuFuncGetParamInfo(f, i, &offsets[i], &sizes[i]));
    size_t want_offsets[] = {0, 8, 16, 32, 40}, want_sizes[] = {1, 8, 16, 2, 8};
    BOOST_CHECK_EQUAL_COLLECTIONS(offsets, offsets + 5, want_offsets, want_offsets + 5);
    BOOST_CHECK_EQUAL_COLLECTIONS(sizes, sizes + 5, want_sizes, want_sizes + 5);
    size_t none;
    BOOST_TEST(cuFuncGetParamInfo(f, 5, &none, &none) == CUDA_ERROR_INVALID_VALUE);
}

BOOST_AUTO_TEST_CASE(parameters_given_as_one_buffer_are_the_same_parameters) {
    CUdeviceptr out = 0;
    ok(cuMemAlloc(&out, 8));
    alignas(8) char block[48] = {};
    block[0] = 1;
    double d = 2.5, a = 3.0;
    short s = 7;
    std::memcpy(block + 8, &d, 8);
    std::memcpy(block + 16, &a, 8);
    block[24] = 4;
    std::memcpy(block + 32, &s, 2);
    std::memcpy(block + 40, &out, 8);
    size_t size = sizeof block;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, block, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    ok(cuLaunchKernel(gpu().function("mixed"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
    double result = 0;
    ok(cuMemcpyDtoH(&result, out, 8));
    BOOST_TEST(result == 1 + 2.5 + 3 + 4 + 7);
    ok(cuMemFree(out));
}

BOOST_AUTO_TEST_CASE(mapped_memory_keeps_its_bytes_when_it_moves_to_another_address) {
    size_t before = free_bytes();
    CUmemAllocationProp prop = gpu_memory();
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr area = 0;
    ok(cuMemAddressReserve(&area, 2 * kChunk, 0, 0, 0));
    ok(cuMemCreate(&handle, kChunk, &prop, 0));
    BOOST_TEST(free_bytes() == before - kChunk);
    map_chunk(area, handle);
    ok(cuMemsetD8(area, 0x5A, kChunk));
    ok(cuCtxSynchronize());
    ok(cuMemUnmap(area, kChunk));
    map_chunk(area + kChunk, handle);
    ok(cuMemRelease(handle));
    std::vector<unsigned char> bytes(kChunk);
    ok(cuMemcpyDtoH(bytes.data(), area + kChunk, kChunk));
    BOOST_TEST(bytes[0] == 0x5A);
    BOOST_TEST(bytes[kChunk - 1] == 0x5A);
    BOOST_TEST(free_bytes() == before - kChunk);  // the mapping holds it
    ok(cuMemUnmap(area + kChunk, kChunk));
    BOOST_TEST(free_bytes() == before);
    ok(cuMemAddressFree(area, 2 * kChunk));
}

BOOST_AUTO_TEST_CASE(a_copy_may_span_several_mappings) {
    CUmemAllocationProp prop = gpu_memory();
    CUdeviceptr area = 0;
    ok(cuMemAddressReserve(&area, 2 * kChunk, 0, 0, 0));
    for (size_t i = 0; i < 2; ++i) {
        CUmemGenericAllocationHandle handle = 0;
        ok(cuMemCreate(&handle, kChunk, &prop, 0));
        map_chunk(area + i * kChunk, handle);
        ok(cuMemRelease(handle));
    }
    std::vector<char> in(kMiB, 'x'), out(kMiB);
    ok(cuMemcpyHtoD(area + kChunk - kMiB / 2, in.data(), kMiB));
    ok(cuMemcpyDtoH(out.data(), area + kChunk - kMiB / 2, kMiB));
    BOOST_TEST((in == out));
    ok(cuMemUnmap(area, 2 * kChunk));
    ok(cuMemAddressFree(area, 2 * kChunk));
}

BOOST_AUTO_TEST_CASE(a_full_gpu_answers_out_of_memory_and_goes_on) {
    CUdeviceptr big = 0, more = 0;
    ok(cuMemAlloc(&big, 60 * kMiB));
    BOOST_TEST(cuMemAlloc(&more, 8 * kMiB) == CUDA_ERROR_OUT_OF_MEMORY);
    CUmemAllocationProp prop = gpu_memory();
    CUmemGenericAllocationHandle handle = 0;
    BOOST_TEST(cuMemCreate(&handle, 8 * kMiB, &prop, 0) == CUDA_ERROR_OUT_OF_MEMORY);
    ok(cuMemFree(big));
    ok(cuMemAlloc(&more, 8 * kMiB));
    ok(cuMemFree(more));
}

BOOST_AUTO_TEST_CASE(a_copy_from_pinned_memory_happens_when_its_stream_gets_there) {
    Held held(gpu().function("wait_for"));
    char* pinned = nullptr;
    ok(cuMemHostAlloc(reinterpret_cast<void**>(&pinned), 16, 0));
    CUdeviceptr to = 0;
    ok(cuMemAlloc(&to, 16));
    std::strcpy(pinned, "before");
    ok(cuMemcpyHtoDAsync(to, pinned, 16, held.stream));
    BOOST_TEST(cuStreamQuery(held.stream) == CUDA_ERROR_NOT_READY);
    std::strcpy(pinned, "after");
    held.go();
    ok(cuStreamSynchronize(held.stream));
    char out[16];
    ok(cuMemcpyDtoH(out, to, 16));
    BOOST_TEST(out == std::string("after"));
    ok(cuMemFree(to));
    ok(cuMemFreeHost(pinned));
}

BOOST_AUTO_TEST_CASE(an_asynchronous_copy_has_read_pageable_memory_when_it_returns) {
    Held held(gpu().function("wait_for"));
    CUdeviceptr to = 0;
    ok(cuMemAlloc(&to, 16));
    char text[16] = "before";
    ok(cuMemcpyHtoDAsync(to, text, 16, held.stream));
    std::strcpy(text, "after");
    held.go();
    ok(cuStreamSynchronize(held.stream));
    char out[16];
    ok(cuMemcpyDtoH(out, to, 16));
    BOOST_TEST(out == std::string("before"));
    ok(cuMemFree(to));
}

BOOST_AUTO_TEST_CASE(an_event_holds_another_stream_back) {
    Held held(gpu().function("wait_for"));
    CUstream other = nullptr;
    CUevent event = nullptr;
    ok(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    ok(cuEventCreate(&event, CU_EVENT_DEFAULT));
    ok(cuEventRecord(event, held.stream));
    ok(cuStreamWaitEvent(other, event, 0));
    std::atomic<bool> ran = false;
    ok(cuLaunchHostFunc(other, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &ran));
    BOOST_TEST(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
    BOOST_TEST(!ran);
    held.go();
    ok(cuStreamSynchronize(other));
    BOOST_TEST(ran);
    ok(cuEventQuery(event));
    ok(cuEventDestroy(event));
    ok(cuStreamDestroy(other));
}

BOOST_AUTO_TEST_CASE(the_legacy_default_stream_waits_for_blocking_streams_and_they_for_it) {
    for (unsigned flags : {CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING}) {
        Held held(gpu().function("wait_for"), flags);
        std::atomic<bool> ran = false;
        ok(cuLaunchHostFunc(
            nullptr, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &ran));
        bool blocks = flags == CU_STREAM_DEFAULT;
        if (blocks)
            BOOST_TEST(cuStreamQuery(nullptr) == CUDA_ERROR_NOT_READY);
        else
            ok(cuStreamSynchronize(nullptr));
        BOOST_TEST(ran == !blocks);
        held.go();
        ok(cuStreamSynchronize(nullptr));
        BOOST_TEST(ran);
    }
}

BOOST_AUTO_TEST_CASE(a_destroyed_stream_finishes_its_work) {
    std::atomic<bool> ran = false;
    Held held(gpu().function("wait_for"));
    ok(cuLaunchHostFunc(
        held.stream, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &ran));
    held.destroy();
    BOOST_TEST(!ran);
    held.go();
    ok(cuCtxSynchronize());
    BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(stream_ordered_memory_is_given_back_when_the_stream_gets_there) {
    size_t before = free_bytes();
    Held held(gpu().function("wait_for"));
    CUdeviceptr a = 0, b = 0;
    ok(cuMemAllocAsync(&a, 40 * kMiB, held.stream));
    ok(cuMemsetD8Async(a, 1, kMiB, held.stream));
    ok(cuMemFreeAsync(a, held.stream));
    BOOST_TEST(free_bytes() == before - 40 * kMiB);
    held.go();
    ok(cuMemAllocAsync(&b, 50 * kMiB, held.stream));  // waits for the free rather than fail
    ok(cuMemFreeAsync(b, held.stream));
    ok(cuStreamSynchronize(held.stream));
    BOOST_TEST(free_bytes() == before);
}

BOOST_AUTO_TEST_CASE(pointers_are_known_for_what_they_are) {
    CUdeviceptr device = 0;
    void* pinned = nullptr;
    int plain = 0;
    ok(cuMemAlloc(&device, 4096));
    ok(cuMemHostAlloc(&pinned, 4096, 0));
    CUmemorytype type = {};
    ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device + 5));
    BOOST_TEST(type == CU_MEMORYTYPE_DEVICE);
    ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(pinned)));
    BOOST_TEST(type == CU_MEMORYTYPE_HOST);
    BOOST_TEST(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                     reinterpret_cast<CUdeviceptr>(&plain)) == CUDA_ERROR_INVALID_VALUE);
    CUdeviceptr base = 0;
    size_t size = 0;
    ok(cuMemGetAddressRange(&base, &size, device + 5));
    BOOST_TEST(base == device);
    BOOST_TEST(size == 4096u);
    ok(cuMemFree(device));
    ok(cuMemFreeHost(pinned));
}

BOOST_AUTO_TEST_CASE(functions_are_found_by_name_version_and_default_stream) {
    void *legacy = nullptr, *own = nullptr, *plain = nullptr;
    CUdriverProcAddressQueryResult status;
    ok(cuGetProcAddress_v2("cuMemcpyHtoDAsync", &legacy, 13000, CU_GET_PROC_ADDRESS_LEGACY_STREAM, &status));
    ok(cuGetProcAddress_v2("cuMemcpyHtoDAsync", &own, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
                           &status));
    BOOST_TEST(legacy != own);
    BOOST_TEST(status == CU_GET_PROC_ADDRESS_SUCCESS);
    ok(cuGetProcAddress_v2("cuMemAlloc", &plain, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
                           &status));
    BOOST_TEST(plain == reinterpret_cast<void*>(&cuMemAlloc_v2));
    ok(cuGetProcAddress_v2("cuMemCreate", &plain, 10000, 0, &status));
    BOOST_TEST(plain == nullptr);
    BOOST_TEST(status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    ok(cuGetProcAddress_v2("cuFlyToTheMoon", &plain, 13000, 0, &status));
    BOOST_TEST(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    BOOST_TEST(cuGetProcAddress_v2("cuInit", &plain, 99000, 0, &status) == CUDA_ERROR_INVALID_VALUE);
}

BOOST_AUTO_TEST_CASE(every_thread_has_a_default_stream_of_its_own) {
    Held held(gpu().function("wait_for"), CU_STREAM_NON_BLOCKING);
    std::thread([] {
        ok(cuCtxSetCurrent(gpu().context));
        unsigned long long own = 0, legacy = 0;
        ok(cuStreamGetId(CU_STREAM_PER_THREAD, &own));
        ok(cuStreamGetId(CU_STREAM_LEGACY, &legacy));
        BOOST_TEST(own != legacy);
        ok(cuStreamSynchronize(CU_STREAM_PER_THREAD));
    }).join();
    held.go();
}

BOOST_AUTO_TEST_SUITE_END()
