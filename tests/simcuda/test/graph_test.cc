// graph_test.cc - graphs, stream capture, managed memory and modelled time, as the documentation has them.
#define BOOST_TEST_MODULE simcuda_graph
#include <cuda.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/simcuda/test/gpu.h"

using namespace simcuda_test;

namespace {

constexpr size_t kMiB = 1 << 20;

// A GPU in virtual time, whose link moves 64 MiB a second and whose launches take a millisecond.
struct OneGpu {
    OneGpu() {
        ::setenv("SIMCUDA_MEMORY", "16MiB", 1);
        ::setenv("SIMCUDA_TIME", "virtual", 1);
        ::setenv("SIMCUDA_COPY_BYTES_PER_S", "64MiB", 1);
        ::setenv("SIMCUDA_LAUNCH_NS", "1000000", 1);
        ::setenv("SIMCUDA_KERNELS", TEST_KERNELS, 1);
        ok(cuInit(0));
        ok(cuDevicePrimaryCtxRetain(&context, 0));
        ok(cuCtxSetCurrent(context));
        ok(cuModuleLoadData(&module, kPtx));
        ok(cuModuleGetFunction(&scramble, module, "scramble"));
    }
    // What nvcc writes for the kernel, without its body: the host function stands for that.
    static constexpr char kPtx[] = R"(
        // a comment before it
        .version 9.0
        .target sm_75
        .address_size 64
        .visible .entry scramble(
            .param .u64 .ptr .align 1 scramble_param_0,
            .param .u64 scramble_param_1, /* and one between */
            .param .u64 scramble_param_2,
            .param .u8 scramble_param_3
        ) { ret; })";
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction scramble = nullptr;
};

size_t free_bytes() {
    size_t free = 0, total = 0;
    ok(cuMemGetInfo(&free, &total));
    return free;
}

OneGpu& gpu() {
    static OneGpu one;
    return one;
}

struct Fixture {
    CUdeviceptr a = 0, b = 0;
    CUstream one = nullptr, two = nullptr;
    uint64_t count = 1000;

    Fixture() {
        ok(cuCtxSetCurrent(gpu().context));
        ok(cuMemAlloc(&a, count));
        ok(cuMemAlloc(&b, count));
        ok(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
        ok(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
    }
    ~Fixture() {
        cuCtxSynchronize();
        for (CUstream s : {one, two}) cuStreamDestroy(s);
        for (CUdeviceptr p : {a, b}) cuMemFree(p);
    }

    void launch(CUstream s, CUdeviceptr from, CUdeviceptr to, unsigned char salt) {
        void* params[] = {&from, &to, &count, &salt};
        ok(cuLaunchKernel(gpu().scramble, 1, 1, 1, 1, 1, 1, 0, s, params, nullptr));
    }
    unsigned char first_byte(CUdeviceptr at) {
        unsigned char byte = 0;
        ok(cuMemcpyDtoH(&byte, at, 1));
        return byte;
    }
    void set(CUdeviceptr at, unsigned char value) {
        ok(cuMemsetD8(at, value, count));
        ok(cuCtxSynchronize());
    }
};

unsigned char scrambled(unsigned char byte, unsigned char salt) {
    return static_cast<unsigned char>(byte * 31 + salt);
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(graph, Fixture)

BOOST_AUTO_TEST_CASE(captured_work_runs_when_it_is_launched_and_as_often) {
    set(a, 3);
    set(b, 0);
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    ok(cuStreamBeginCapture(one, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    launch(one, a, b, 1);
    launch(one, b, a, 2);
    ok(cuStreamEndCapture(one, &graph));
    BOOST_TEST(first_byte(b) == 0);
    ok(cuGraphInstantiate(&exec, graph, 0));
    ok(cuGraphDestroy(graph));
    unsigned char want = 3;
    for (int i = 0; i < 3; ++i) {
        ok(cuGraphLaunch(exec, one));
        want = scrambled(scrambled(want, 1), 2);
    }
    ok(cuGraphExecDestroy(exec));  // the launches under way go on
    ok(cuStreamSynchronize(one));
    BOOST_TEST(first_byte(a) == want);
}

BOOST_AUTO_TEST_CASE(a_stream_that_waits_for_a_captured_event_is_captured_too_and_must_come_back) {
    for (bool comes_back : {true, false}) {
        CUevent fork = nullptr, join = nullptr;
        CUgraph graph = nullptr;
        ok(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
        ok(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
        ok(cuStreamBeginCapture(one, CU_STREAM_CAPTURE_MODE_RELAXED));
        launch(one, a, b, 1);
        ok(cuEventRecord(fork, one));
        ok(cuStreamWaitEvent(two, fork, 0));
        launch(two, b, a, 2);
        ok(cuEventRecord(join, two));
        if (comes_back) ok(cuStreamWaitEvent(one, join, 0));
        CUstreamCaptureStatus status = {};
        ok(cuStreamIsCapturing(two, &status));
        BOOST_TEST(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
        BOOST_TEST(cuStreamEndCapture(one, &graph) ==
                   (comes_back ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
        ok(cuStreamIsCapturing(two, &status));
        BOOST_TEST(status == CU_STREAM_CAPTURE_STATUS_NONE);
        size_t nodes = 0;
        if (comes_back) {
            ok(cuGraphGetNodes(graph, nullptr, &nodes));
            BOOST_TEST(nodes == 2u);
            ok(cuGraphDestroy(graph));
        }
        ok(cuEventDestroy(fork));
        ok(cuEventDestroy(join));
    }
}

BOOST_AUTO_TEST_CASE(synchronising_a_captured_stream_spoils_the_capture) {
    CUgraph graph = nullptr;
    ok(cuStreamBeginCapture(one, CU_STREAM_CAPTURE_MODE_GLOBAL));
    BOOST_TEST(cuStreamSynchronize(one) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    BOOST_TEST(cuStreamEndCapture(one, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    BOOST_TEST(graph == nullptr);
}

BOOST_AUTO_TEST_CASE(a_graph_built_by_node_respects_its_edges_and_tells_what_its_nodes_are) {
    set(a, 5);
    unsigned char salt = 9;
    void* params[] = {&a, &b, &count, &salt};
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = gpu().scramble;
    kernel.gridDimX = kernel.gridDimY = kernel.gridDimZ = kernel.blockDimX = kernel.blockDimY =
        kernel.blockDimZ = 1;
    kernel.kernelParams = params;
    CUDA_MEMSET_NODE_PARAMS fill = {a, 0, 7, 1, count, 1};
    CUgraph graph = nullptr;
    CUgraphNode run = nullptr, set_first = nullptr;
    CUgraphExec exec = nullptr;
    ok(cuGraphCreate(&graph, 0));
    ok(cuGraphAddKernelNode(&run, graph, nullptr, 0, &kernel));
    ok(cuGraphAddMemsetNode(&set_first, graph, nullptr, 0, &fill, nullptr));
    ok(cuGraphAddDependencies(graph, &set_first, &run, nullptr, 1));  // the fill comes before the older node
    CUDA_KERNEL_NODE_PARAMS told = {};
    ok(cuGraphKernelNodeGetParams(run, &told));
    BOOST_TEST(told.func == gpu().scramble);
    BOOST_TEST(*static_cast<CUdeviceptr*>(told.kernelParams[1]) == b);
    ok(cuGraphInstantiate(&exec, graph, 0));
    ok(cuGraphLaunch(exec, one));
    ok(cuStreamSynchronize(one));
    BOOST_TEST(first_byte(b) == scrambled(7, 9));
    salt = 10;
    ok(cuGraphExecKernelNodeSetParams(exec, run, &kernel));
    ok(cuGraphLaunch(exec, one));
    ok(cuStreamSynchronize(one));
    BOOST_TEST(first_byte(b) == scrambled(7, 10));
    ok(cuGraphExecDestroy(exec));
    ok(cuGraphDestroy(graph));
}

BOOST_AUTO_TEST_CASE(virtual_time_counts_what_is_modelled_and_nothing_else) {
    void* pinned = nullptr;
    CUdeviceptr big = 0;
    CUevent start = nullptr, end = nullptr;
    ok(cuMemHostAlloc(&pinned, 8 * kMiB, 0));
    ok(cuMemAlloc(&big, 8 * kMiB));
    ok(cuEventCreate(&start, 0));
    ok(cuEventCreate(&end, 0));
    ok(cuEventRecord(start, one));
    ok(cuMemcpyHtoDAsync(big, pinned, 8 * kMiB, one));  // 125 ms
    launch(one, a, b, 0);                               // 1 ms
    launch(one, b, a, 0);                               // 1 ms
    ok(cuEventRecord(end, one));
    ok(cuEventSynchronize(end));
    float ms = 0;
    ok(cuEventElapsedTime(&ms, start, end));
    BOOST_TEST(ms == 127.0f, boost::test_tools::tolerance(0.001f));
    // The two ways of the link don't wait for each other; two copies in one way do.
    ok(cuEventRecord(start, one));
    ok(cuMemcpyHtoDAsync(big, pinned, 4 * kMiB, one));
    ok(cuEventRecord(end, one));
    ok(cuStreamWaitEvent(two, start, 0));
    ok(cuMemcpyDtoHAsync(static_cast<char*>(pinned) + 4 * kMiB, big + 4 * kMiB, 4 * kMiB, two));
    ok(cuStreamSynchronize(one));
    ok(cuStreamSynchronize(two));
    ok(cuEventElapsedTime(&ms, start, end));
    BOOST_TEST(ms == 62.5f, boost::test_tools::tolerance(0.001f));
    ok(cuEventDestroy(start));
    ok(cuEventDestroy(end));
    ok(cuMemFree(big));
    ok(cuMemFreeHost(pinned));
}

BOOST_AUTO_TEST_CASE(prefetched_managed_memory_takes_the_gpu_and_gives_way_when_it_is_full) {
    size_t before = 0, now = 0, total = 0;
    CUdeviceptr first = 0, second = 0;
    CUmemLocation gpu_place = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    ok(cuMemGetInfo(&before, &total));
    ok(cuMemAllocManaged(&first, 10 * kMiB, CU_MEM_ATTACH_GLOBAL));
    ok(cuMemAllocManaged(&second, 10 * kMiB, CU_MEM_ATTACH_GLOBAL));
    std::memset(reinterpret_cast<void*>(first), 4, 10 * kMiB);  // host code may
    ok(cuMemPrefetchAsync(first, 10 * kMiB, gpu_place, 0, one));
    ok(cuStreamSynchronize(one));
    ok(cuMemGetInfo(&now, &total));
    BOOST_TEST(now == before - 10 * kMiB);
    ok(cuMemPrefetchAsync(second, 10 * kMiB, gpu_place, 0, one));
    ok(cuStreamSynchronize(one));
    ok(cuMemGetInfo(&now, &total));
    BOOST_TEST(now < 2 * kMiB);  // the second is there, and what is left of the first
    int place = -9;
    ok(cuMemRangeGetAttribute(&place, sizeof place, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, second,
                              10 * kMiB));
    BOOST_TEST(place == 0);
    launch(one, first, b, 1);
    ok(cuStreamSynchronize(one));
    BOOST_TEST(first_byte(b) == scrambled(4, 1));
    ok(cuMemFree(first));
    ok(cuMemFree(second));
    ok(cuMemGetInfo(&now, &total));
    BOOST_TEST(now == before);
}

BOOST_AUTO_TEST_CASE(a_kernel_brings_the_managed_memory_that_it_touches_and_no_more) {
    CUdeviceptr managed = 0;
    size_t before = free_bytes();
    ok(cuMemAllocManaged(&managed, 8 * kMiB, CU_MEM_ATTACH_GLOBAL));
    std::memset(reinterpret_cast<void*>(managed), 7, 8 * kMiB);
    BOOST_TEST(free_bytes() == before);
    launch(one, managed + 4 * kMiB, b, 1);
    ok(cuStreamSynchronize(one));
    BOOST_TEST(first_byte(b) == scrambled(7, 1));
    BOOST_TEST(free_bytes() == before - 2 * kMiB);
    // Written there, and home again: the bytes are the kernel's.
    launch(one, b, managed + 4 * kMiB, 2);
    ok(cuMemPrefetchAsync(managed, 8 * kMiB, {CU_MEM_LOCATION_TYPE_HOST, {0}}, 0, one));
    ok(cuStreamSynchronize(one));
    BOOST_TEST(free_bytes() == before);
    BOOST_TEST(first_byte(managed + 4 * kMiB) == scrambled(scrambled(7, 1), 2));
    ok(cuMemFree(managed));
}

BOOST_AUTO_TEST_CASE(read_mostly_memory_goes_home_for_nothing_until_a_kernel_writes_to_it) {
    CUdeviceptr managed = 0;
    CUmemLocation gpu_place = {CU_MEM_LOCATION_TYPE_DEVICE, {0}}, home = {CU_MEM_LOCATION_TYPE_HOST, {0}};
    ok(cuMemAllocManaged(&managed, 4 * kMiB, CU_MEM_ATTACH_GLOBAL));
    std::memset(reinterpret_cast<void*>(managed), 9, 4 * kMiB);
    ok(cuMemAdvise(managed, 4 * kMiB, CU_MEM_ADVISE_SET_READ_MOSTLY, gpu_place));
    int read_mostly = 0;
    ok(cuMemRangeGetAttribute(&read_mostly, sizeof read_mostly, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, managed,
                              4 * kMiB));
    BOOST_TEST(read_mostly == 1);
    CUevent events[4];
    for (CUevent& event : events) ok(cuEventCreate(&event, CU_EVENT_DEFAULT));
    auto ms_between = [&](int first, int last) {
        float ms = 0;
        ok(cuEventElapsedTime(&ms, events[first], events[last]));
        return ms;
    };
    ok(cuMemPrefetchAsync(managed, 4 * kMiB, gpu_place, 0, one));
    ok(cuEventRecord(events[0], one));
    ok(cuMemPrefetchAsync(managed, 4 * kMiB, home, 0, one));
    ok(cuEventRecord(events[1], one));
    ok(cuMemPrefetchAsync(managed, 4 * kMiB, gpu_place, 0, one));
    launch(one, b, managed, 1);  // writes to the first of two chunks
    ok(cuEventRecord(events[2], one));
    ok(cuMemPrefetchAsync(managed, 4 * kMiB, home, 0, one));
    ok(cuEventRecord(events[3], one));
    ok(cuStreamSynchronize(one));
    BOOST_TEST(ms_between(0, 1) == 0.0f);
    BOOST_TEST(ms_between(1, 2) > 0.0f);
    BOOST_TEST(ms_between(2, 3) == ms_between(1, 2) / 2, boost::test_tools::tolerance(0.05f));
    for (CUevent event : events) ok(cuEventDestroy(event));
    ok(cuMemFree(managed));
}

BOOST_AUTO_TEST_SUITE_END()
