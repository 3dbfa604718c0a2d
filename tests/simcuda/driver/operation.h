// operation.h - the work that streams and graphs carry: described by value, so that one description serves a stream, a
// node of a graph, and every launch of it.
//
// Callers: any thread; submit() takes the context's order lock.
// Fails:   with the documented CUresult when the work is handed in; what goes wrong later is the context's sticky error.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "tests/simcuda/driver/driver.h"

namespace simcuda {

struct KernelOp {
    CUfunction handle = nullptr;
    std::shared_ptr<Function> function;
    std::shared_ptr<Module> module;  // stays loaded while the launch is under way
    uint32_t grid[3] = {}, block[3] = {};
    uint32_t shared_bytes = 0;
    std::vector<std::byte> params;  // the block, laid out as the function says
};

// What one side of a copy is. Unified addressing: the address says it.
enum class Place { pageable, pinned, device, managed };

struct CopySide {
    uint64_t address = 0;
    uint64_t pitch_bytes = 0;  // from row to row
    uint64_t slice_bytes = 0;  // from slice to slice
    Place place = Place::pageable;
};

struct CopyOp {
    CopySide to, from;
    uint64_t width_bytes = 0, height = 1, depth = 1;
    std::shared_ptr<std::vector<std::byte>>
        staged;  // a copy of a pageable source, taken when the call was made
    uint64_t bytes() const { return width_bytes * height * depth; }
    uint64_t extent_bytes(const CopySide& side) const;  // from the first to the last byte that is touched
};

struct FillOp {
    uint64_t address = 0, pitch_bytes = 0;
    uint32_t value = 0, element_bytes = 1;
    uint64_t width = 0, height = 1;  // in elements
    Place place = Place::device;
    uint64_t extent_bytes() const { return height ? (height - 1) * pitch_bytes + width * element_bytes : 0; }
};

struct HostOp {
    std::function<void()> call;
    CUhostFn function = nullptr;  // as given, for cuGraphHostNodeGetParams
    void* data = nullptr;
};
struct RecordOp {
    CUevent handle = nullptr;
    std::shared_ptr<Event> event;
};
struct WaitOp {
    CUevent handle = nullptr;
    std::shared_ptr<Event> event;
};
struct FreeOp {
    uint64_t address = 0;
    CUmemoryPool pool = nullptr;
};
struct PrefetchOp {
    uint64_t address = 0, size_bytes = 0;
    bool to_device = false;
};
struct EmptyOp {};
struct Steps;
struct StepsOp {  // a whole graph: a launch of one, or a child node
    CUgraph handle = nullptr;
    std::shared_ptr<const Steps> steps;
};

using Operation =
    std::variant<KernelOp, CopyOp, FillOp, HostOp, RecordOp, WaitOp, FreeOp, PrefetchOp, EmptyOp, StepsOp>;
const char* operation_name(const Operation& operation);

// From and to the driver API's description. false: an array, which is not simulated. For CUDA_MEMCPY2D: depth 1.
bool copy_op_of(const CUDA_MEMCPY3D& from, CopyOp* to);
CUDA_MEMCPY3D description_of(const CopyOp& copy);

// Says what each side is and whether the device may touch it.
CUresult check_copy(Driver& d, CopyOp& copy);
CUresult check_fill(Driver& d, FillOp& fill);

// Puts the work at the end of the stream, after what the legacy default stream's rules and `after` say; or into the graph
// that the stream is captured to. `done` may be null.
CUresult submit(Driver& d, Context& c, Stream& s, Operation operation, MarkPtr* done,
                std::vector<MarkPtr> after = {});

// submit() and wait; the answer is the context's, so that work that failed is told here.
CUresult submit_and_wait(Driver& d, Context& c, Stream& s, Operation operation);

// Runs the work on this thread, which is a stream's. Gives when it ends on the GPU's clock.
uint64_t perform(Driver& d, Context& c, const Operation& operation, uint64_t start_ns);

// The marks that work submitted now must wait for. Under the context's order lock.
std::vector<MarkPtr> legacy_order(Context& c, Stream& s);

}  // namespace simcuda
