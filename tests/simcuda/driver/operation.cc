#include "tests/simcuda/driver/operation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/simcuda/driver/graph.h"
#include "tests/simcuda/driver/kernel_crash.h"
#include "tests/simcuda/driver/misuse.h"
#include "tests/simcuda/driver/pool.h"

namespace simcuda {
namespace {

template <class... F>
struct Match : F... {
    using F::operator()...;
};
template <class... F>
Match(F...) -> Match<F...>;

// While it lives, the memory that an operation touches can't be unmapped or freed unnoticed.
class InUse {
  public:
    InUse(Memory& memory, const Operation& operation) : memory_(memory) { look_at(operation); }
    ~InUse() {
        for (Memory::Use use : uses_) memory_.end_use(use);
    }
    InUse(const InUse&) = delete;

  private:
    void look_at(const Operation& operation) {
        if (auto* copy = std::get_if<CopyOp>(&operation)) {
            for (const CopySide* side : {&copy->to, &copy->from})
                if (side->place != Place::pageable) hold(side->address, copy->extent_bytes(*side));
        } else if (auto* fill = std::get_if<FillOp>(&operation)) {
            hold(fill->address, fill->extent_bytes());
        } else if (auto* steps = std::get_if<StepsOp>(&operation)) {
            for (const Step& step : steps->steps->all) look_at(step.operation);
        }
    }
    void hold(uint64_t base, uint64_t bytes) { uses_.push_back(memory_.begin_use({base, bytes})); }
    Memory& memory_;
    std::vector<Memory::Use> uses_;
};

CUresult check_side(Driver& d, CopySide& side, uint64_t bytes, bool write) {
    if (side.address == 0)
        return misuse(CUDA_ERROR_INVALID_VALUE, "a copy {} address 0", write ? "to" : "from");
    if (CUresult bad = d.memory.check(side.address, bytes, write, true); bad != CUDA_SUCCESS) return bad;
    std::optional<Region> region = d.memory.find(side.address);
    if (!region)
        side.place = Place::pageable;
    else if (region->on_device())
        side.place = Place::device;
    else
        side.place = region->kind == Kind::managed ? Place::managed : Place::pinned;
    return CUDA_SUCCESS;
}

void copy_bytes(const CopyOp& copy) {
    for (uint64_t z = 0; z < copy.depth; ++z) {
        for (uint64_t y = 0; y < copy.height; ++y) {
            auto* to =
                reinterpret_cast<char*>(copy.to.address + z * copy.to.slice_bytes + y * copy.to.pitch_bytes);
            auto* from = reinterpret_cast<const char*>(copy.from.address + z * copy.from.slice_bytes +
                                                       y * copy.from.pitch_bytes);
            std::memmove(to, from, copy.width_bytes);
        }
    }
}

uint64_t perform_copy(Driver& d, const CopyOp& copy, uint64_t start_ns) {
    copy_bytes(copy);
    bool from_gpu = copy.from.place == Place::device, to_gpu = copy.to.place == Place::device;
    uint64_t end_ns = start_ns;
    if (to_gpu && !from_gpu) {
        end_ns = d.gpu->take_link(Direction::to_device, start_ns, copy.bytes());
        d.counters.bytes_to_device += copy.bytes();
    } else if (from_gpu && !to_gpu) {
        end_ns = d.gpu->take_link(Direction::to_host, start_ns, copy.bytes());
        d.counters.bytes_to_host += copy.bytes();
    } else {
        d.counters.bytes_on_device += copy.bytes();
    }
    ++d.counters.copies;
    return end_ns;
}

uint64_t perform_fill(const FillOp& fill, uint64_t start_ns) {
    for (uint64_t y = 0; y < fill.height; ++y) {
        auto* row = reinterpret_cast<char*>(fill.address + y * fill.pitch_bytes);
        if (fill.element_bytes == 1) {
            std::memset(row, static_cast<int>(fill.value), fill.width);
            continue;
        }
        for (uint64_t x = 0; x < fill.width; ++x)
            std::memcpy(row + x * fill.element_bytes, &fill.value, fill.element_bytes);  // little-endian
    }
    return start_ns;
}

uint64_t perform_kernel(Driver& d, const KernelOp& op, uint64_t start_ns) {
    const simcuda_kernel& kernel = *op.function->kernel;
    uint64_t end_ns = start_ns + d.settings.launch_ns;
    d.clock.work_until(end_ns);
    std::vector<std::byte> params = op.params;
    std::vector<void*> pointers(kernel.param_count + 1);
    for (uint32_t i = 0; i < kernel.param_count; ++i)
        pointers[i] = params.data() + kernel.params[i].offset_bytes;
    std::vector<std::byte> shared(op.shared_bytes + 1);
    simcuda_launch launch = {{op.grid[0], op.grid[1], op.grid[2]},
                             {op.block[0], op.block[1], op.block[2]},
                             op.shared_bytes,
                             0,
                             shared.data()};
    d.managed.begin_kernel();
    RunningKernel running(op.function->name.c_str());
    kernel.run(&launch, pointers.data());
    uint64_t touches_end_ns = d.managed.end_kernel();
    ++d.counters.launches;
    return d.clock.start_ns(std::max(end_ns, touches_end_ns));
}

// The memory may have changed since a graph was made: look again.
bool still_valid(Driver& d, Context& c, const Operation& operation) {
    CUresult now = CUDA_SUCCESS;
    if (auto* copy = std::get_if<CopyOp>(&operation)) {
        CopyOp again = *copy;
        now = check_copy(d, again);
    } else if (auto* fill = std::get_if<FillOp>(&operation)) {
        FillOp again = *fill;
        now = check_fill(d, again);
    }
    if (now != CUDA_SUCCESS) c.failed = CUDA_ERROR_ILLEGAL_ADDRESS;
    return now == CUDA_SUCCESS;
}

uint64_t perform_steps(Driver& d, Context& c, const std::vector<Step>& steps, uint64_t start_ns) {
    for (const Step& step : steps)
        if (step.enabled && still_valid(d, c, step.operation))
            start_ns = perform(d, c, step.operation, start_ns);
    return start_ns;
}

// Work that is submitted after cuMemFreeAsync, on whichever stream, has no claim to the memory any more.
CUresult refuse_freed(Driver& d, uint64_t address) {
    std::optional<Region> region = d.memory.find(address);
    if (!region || !region->freeing) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} was freed by cuMemFreeAsync before (use after free)",
                  address);
}

CUresult refuse_freed(Driver& d, const Operation& operation) {
    if (auto* fill = std::get_if<FillOp>(&operation)) return refuse_freed(d, fill->address);
    auto* copy = std::get_if<CopyOp>(&operation);
    if (!copy) return CUDA_SUCCESS;
    CUresult to = refuse_freed(d, copy->to.address);
    return to == CUDA_SUCCESS ? refuse_freed(d, copy->from.address) : to;
}

}  // namespace

const char* operation_name(const Operation& operation) {
    constexpr const char* kNames[] = {"kernel",     "copy", "memset",   "host function", "event record",
                                      "event wait", "free", "prefetch", "empty",         "graph"};
    return kNames[operation.index()];
}

bool copy_op_of(const CUDA_MEMCPY3D& p, CopyOp* op) {
    if (p.dstMemoryType == CU_MEMORYTYPE_ARRAY || p.srcMemoryType == CU_MEMORYTYPE_ARRAY) return false;
    op->width_bytes = p.WidthInBytes;
    op->height = p.Height;
    op->depth = p.Depth;
    // A pitch or height of 0 stands for rows and slices without gaps.
    op->to.pitch_bytes = p.dstPitch ? p.dstPitch : p.WidthInBytes;
    op->from.pitch_bytes = p.srcPitch ? p.srcPitch : p.WidthInBytes;
    op->to.slice_bytes = op->to.pitch_bytes * (p.dstHeight ? p.dstHeight : p.Height);
    op->from.slice_bytes = op->from.pitch_bytes * (p.srcHeight ? p.srcHeight : p.Height);
    uint64_t to = p.dstMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(p.dstHost) : p.dstDevice;
    uint64_t from =
        p.srcMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(p.srcHost) : p.srcDevice;
    op->to.address = to + p.dstZ * op->to.slice_bytes + p.dstY * op->to.pitch_bytes + p.dstXInBytes;
    op->from.address = from + p.srcZ * op->from.slice_bytes + p.srcY * op->from.pitch_bytes + p.srcXInBytes;
    return true;
}

CUDA_MEMCPY3D description_of(const CopyOp& copy) {
    CUDA_MEMCPY3D p = {};
    p.WidthInBytes = copy.width_bytes;
    p.Height = copy.height;
    p.Depth = copy.depth;
    p.dstMemoryType = copy.to.place == Place::pageable ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_UNIFIED;
    p.srcMemoryType = copy.from.place == Place::pageable ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_UNIFIED;
    p.dstHost = reinterpret_cast<void*>(copy.to.address);
    p.srcHost = reinterpret_cast<const void*>(copy.from.address);
    p.dstDevice = copy.to.address;
    p.srcDevice = copy.from.address;
    p.dstPitch = copy.to.pitch_bytes;
    p.srcPitch = copy.from.pitch_bytes;
    p.dstHeight = copy.to.pitch_bytes ? copy.to.slice_bytes / copy.to.pitch_bytes : 0;
    p.srcHeight = copy.from.pitch_bytes ? copy.from.slice_bytes / copy.from.pitch_bytes : 0;
    return p;
}

uint64_t CopyOp::extent_bytes(const CopySide& side) const {
    if (bytes() == 0) return 0;
    return (depth - 1) * side.slice_bytes + (height - 1) * side.pitch_bytes + width_bytes;
}

CUresult check_copy(Driver& d, CopyOp& copy) {
    if (copy.bytes() == 0) return CUDA_SUCCESS;
    if (CUresult bad = check_side(d, copy.to, copy.extent_bytes(copy.to), true); bad != CUDA_SUCCESS)
        return bad;
    return check_side(d, copy.from, copy.extent_bytes(copy.from), false);
}

CUresult check_fill(Driver& d, FillOp& fill) {
    if (fill.extent_bytes() == 0) return CUDA_SUCCESS;
    if (fill.address % fill.element_bytes)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} is not aligned to {} bytes", fill.address,
                      fill.element_bytes);
    return d.memory.check(fill.address, fill.extent_bytes(), true, false);
}

// Work of the legacy default stream would have to come after that of a stream that is being captured.
static CUresult refuse_implicit_capture(Context& c, const Stream& s) {
    if (&s != c.legacy.get()) return CUDA_SUCCESS;
    for (const auto& stream : c.streams) {
        if (!stream->capture || !stream->blocking()) continue;
        stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    return CUDA_SUCCESS;
}

std::vector<MarkPtr> legacy_order(Context& c, Stream& s) {
    std::vector<MarkPtr> marks;
    auto add = [&](const Stream& stream) {
        MarkPtr tail = stream.tail();
        if (tail && !tail->reached()) marks.push_back(std::move(tail));
    };
    if (&s != c.legacy.get()) {
        if (s.blocking()) add(*c.legacy);
        return marks;
    }
    for (const auto& stream : c.streams)
        if (stream->blocking()) add(*stream);
    for (const auto& [thread, stream] : c.per_thread) add(*stream);
    std::erase_if(c.orphans, [](const MarkPtr& mark) { return mark->reached(); });
    marks.insert(marks.end(), c.orphans.begin(), c.orphans.end());
    return marks;
}

CUresult submit(Driver& d, Context& c, Stream& s, Operation operation, MarkPtr* done,
                std::vector<MarkPtr> after) {
    if (CUresult bad = refuse_freed(d, operation); bad != CUDA_SUCCESS) return bad;
    std::lock_guard lock(c.order);
    if (s.capture) {
        if (std::holds_alternative<FreeOp>(operation))
            return CUDA_ERROR_NOT_SUPPORTED;  // nor are allocation nodes
        if (s.capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        CUgraphNode node = nullptr;
        CUresult added = add_node(d, *s.capture->graph, std::move(operation), s.capture_tail, &node);
        if (added == CUDA_SUCCESS) s.capture_tail = {node};
        return added;
    }
    if (CUresult bad = refuse_implicit_capture(c, s); bad != CUDA_SUCCESS) return bad;
    std::vector<MarkPtr> order = legacy_order(c, s);
    after.insert(after.end(), order.begin(), order.end());
    const char* name = operation_name(operation);
    auto in_use = std::make_shared<InUse>(d.memory, operation);
    auto held = std::make_shared<Operation>(std::move(operation));
    auto context = d.contexts.find(c.handle);
    MarkPtr mark = s.submit(name, std::move(after), [&d, context, in_use, held](uint64_t start_ns) mutable {
        uint64_t end_ns = perform(d, *context, *held, start_ns);
        in_use.reset();
        return end_ns;
    });
    if (done) *done = std::move(mark);
    return CUDA_SUCCESS;
}

CUresult submit_and_wait(Driver& d, Context& c, Stream& s, Operation operation) {
    MarkPtr done;
    if (CUresult bad = submit(d, c, s, std::move(operation), &done); bad != CUDA_SUCCESS) return bad;
    if (done) d.clock.host_waited_for(done->wait());
    return c.failed;
}

uint64_t perform(Driver& d, Context& c, const Operation& operation, uint64_t start_ns) {
    if (c.failed != CUDA_SUCCESS) return start_ns;
    return std::visit(
        Match{
            [&](const KernelOp& op) { return perform_kernel(d, op, start_ns); },
            [&](const CopyOp& op) { return op.bytes() ? perform_copy(d, op, start_ns) : start_ns; },
            [&](const FillOp& op) { return perform_fill(op, start_ns); },
            [&](const HostOp& op) { return op.call(), d.clock.start_ns(start_ns); },
            [&](const RecordOp&) { return start_ns; },  // in a graph; cuEventRecord marks the stream itself
            [&](const WaitOp&) { return start_ns; },
            [&](const FreeOp& op) { return release_to_pool(d, op), start_ns; },
            [&](const PrefetchOp& op) {
                return d.managed.prefetch(op.address, op.size_bytes, op.to_device, start_ns);
            },
            [&](const EmptyOp&) { return start_ns; },
            [&](const StepsOp& op) { return perform_steps(d, c, op.steps->all, start_ns); },
        },
        operation);
}

}  // namespace simcuda
