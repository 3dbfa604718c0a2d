// driver.h - the simulated driver of one process: the GPU, its memory, and every object that a handle stands for.
//
// Owns:      all of it, from cuInit to the end of the process. A CUDA driver is reached through plain functions, so there
//            is one of it, in driver.cc; it is never destroyed, for programs call CUDA from their own exit handlers.
// Callers:   the entry points (api_*.cc), through entry.h.
// Locks:     Context::order, then a stream's own; the tables' and memory's locks are innermost.
#pragma once

#include <cuda.h>
#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/simcuda/driver/gpu.h"
#include "tests/simcuda/driver/gpu_clock.h"
#include "tests/simcuda/driver/handles.h"
#include "tests/simcuda/driver/managed.h"
#include "tests/simcuda/driver/memory.h"
#include "tests/simcuda/driver/module.h"
#include "tests/simcuda/driver/settings.h"
#include "tests/simcuda/driver/stream.h"

namespace simcuda {

struct Event {
    CUcontext context = nullptr;
    unsigned flags = 0;
    std::mutex mutex;                  // the mark
    MarkPtr mark;                      // null: never recorded
    std::shared_ptr<Capture> capture;  // recorded in a capture last: the nodes that it stands for
    std::vector<CUgraphNode> capture_tail;
};

struct Context {
    CUcontext handle = nullptr;
    bool primary = false;
    std::atomic<unsigned> flags = 0;
    std::shared_ptr<void> charge;  // SIMCUDA_CONTEXT_BYTES, on the GPU
    std::shared_ptr<Stream> legacy;
    std::mutex order;                              // submission order between streams, and the fields below
    std::vector<std::shared_ptr<Stream>> streams;  // blocking and not, the legacy stream aside
    std::map<pid_t, std::shared_ptr<Stream>> per_thread;
    std::vector<MarkPtr> orphans;  // the last work of streams that were destroyed before it was done
    std::atomic<CUresult> failed =
        CUDA_SUCCESS;  // sticky: what work on a stream died of (SIMCUDA_MISUSE=error)
    std::atomic<size_t> limits[CU_LIMIT_MAX] = {};
};

struct Counters {
    std::atomic<uint64_t> bytes_to_device = 0, bytes_to_host = 0, bytes_on_device = 0;
    std::atomic<uint64_t> copies = 0, launches = 0, graph_launches = 0;
    std::atomic<uint64_t> allocations = 0, creates = 0, maps = 0, unmaps = 0;
};

struct Graph;
struct Node;
struct GraphExec;
struct Pool;

struct Driver {
    Driver(Settings s, std::unique_ptr<Gpu> c);

    const Settings settings;
    const pid_t process;  // a child of fork() has no streams' threads: CUDA is not initialised there
    const std::unique_ptr<Gpu> gpu;
    GpuClock clock;
    Memory memory;
    Managed managed;
    Counters counters;
    KernelLibraries libraries;

    Handles<CUcontext, Context> contexts{0xC1};
    Handles<CUstream, Stream> streams{0xC2};
    Handles<CUevent, Event> events{0xC3};
    Handles<CUmodule, Module> modules{0xC4};
    Handles<CUfunction, Function> functions{0xC5};
    Handles<CUgraph, Graph> graphs{0xC6};
    Handles<CUgraphNode, Node> nodes{0xCB};
    Handles<CUgraphExec, GraphExec> graph_execs{0xC7};
    Handles<CUmemoryPool, Pool> pools{0xC8};
    Handles<CUlibrary, Module> libraries_loaded{0xC9};

    std::mutex primary_mutex;  // the fields below
    CUcontext primary = nullptr;
    unsigned primary_references = 0, primary_flags = 0;
    CUmemoryPool default_pool = nullptr, current_pool = nullptr;
};

Driver* driver();         // null before cuInit, and in a child of fork()
CUresult start_driver();  // cuInit
CUresult make_context(Driver& d, unsigned flags, bool primary, CUcontext* out);
CUresult destroy_context(Driver& d, CUcontext handle);

// The contexts that this thread has pushed, the current one last.
std::vector<CUcontext>& context_stack();

// Waits for all that was submitted to the context so far.
void drain(Driver& d, Context& c);

}  // namespace simcuda
