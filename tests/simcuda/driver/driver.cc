#include "tests/simcuda/driver/driver.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/simcuda/driver/graph.h"
#include "tests/simcuda/driver/kernel_crash.h"
#include "tests/simcuda/driver/misuse.h"
#include "tests/simcuda/driver/pool.h"

namespace simcuda {
namespace {

std::mutex start_mutex;
std::atomic<Driver*> the_driver = nullptr;

// Runs at exit, while streams may still work: counters are atomic, and what is not done yet is not counted.
void write_stats() {
    Driver* d = driver();
    if (!d) return;
    const Counters& c = d->counters;
    nlohmann::json all = {{"bytes_to_device", c.bytes_to_device.load()},
                          {"bytes_to_host", c.bytes_to_host.load()},
                          {"bytes_on_device", c.bytes_on_device.load()},
                          {"copies", c.copies.load()},
                          {"launches", c.launches.load()},
                          {"graph_launches", c.graph_launches.load()},
                          {"allocations", c.allocations.load()},
                          {"creates", c.creates.load()},
                          {"maps", c.maps.load()},
                          {"unmaps", c.unmaps.load()},
                          {"managed_faults", d->managed.counters.faults.load()},
                          {"managed_bytes_to_device", d->managed.counters.bytes_to_device.load()},
                          {"managed_bytes_to_host", d->managed.counters.bytes_to_host.load()},
                          {"managed_most_bytes", d->managed.counters.most_bytes.load()},
                          {"held_bytes", d->gpu->held_bytes()},
                          {"peak_bytes", d->gpu->peak_bytes()},
                          {"virtual_ns", d->settings.virtual_time ? d->clock.now_ns() : 0}};
    std::ofstream(d->settings.stats) << all.dump() << '\n';
}

// Bad settings are a mistake in the test that sets them: said aloud, whatever SIMCUDA_MISUSE says.
[[noreturn]] void refuse_to_start(const std::string& why) {
    std::string line = "simcuda: cuInit: " + why + "\n";
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    std::abort();
}

}  // namespace

Driver::Driver(Settings s, std::unique_ptr<Gpu> c)
    : settings(std::move(s)),
      process(::getpid()),
      gpu(std::move(c)),
      clock(settings.virtual_time),
      memory(*gpu, settings.poison, settings.granularity_bytes),
      managed(*gpu, clock) {}

Driver* driver() {
    Driver* d = the_driver.load(std::memory_order_acquire);
    return d && d->process == ::getpid() ? d : nullptr;
}

CUresult start_driver() {
    std::lock_guard lock(start_mutex);
    if (the_driver.load()) return driver() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
    tierd::Result<Settings> settings = Settings::from_environment();
    if (!settings) refuse_to_start(settings.error().text());
    abort_on_misuse(settings->abort_on_misuse);
    tierd::Result<std::unique_ptr<Gpu>> gpu = Gpu::open(*settings);
    if (!gpu) refuse_to_start(gpu.error().text());
    auto d = std::make_unique<Driver>(*settings, std::move(*gpu));
    if (std::string bad = d->libraries.open(d->settings.kernels); !bad.empty()) refuse_to_start(bad);
    watch_for_kernel_crashes(d->memory, d->managed);
    if (!d->settings.stats.empty()) std::atexit(write_stats);
    the_driver.store(d.release(), std::memory_order_release);
    return CUDA_SUCCESS;
}

std::vector<CUcontext>& context_stack() {
    thread_local std::vector<CUcontext> stack;
    return stack;
}

CUresult make_context(Driver& d, unsigned flags, bool primary, CUcontext* out) {
    auto context = std::make_shared<Context>();
    context->flags = flags;
    context->primary = primary;
    if (uint64_t bytes = d.settings.context_bytes) {
        context->charge = Physical::take(*d.gpu, bytes, bytes);
        if (!context->charge) return CUDA_ERROR_OUT_OF_MEMORY;
    }
    CUcontext handle = d.contexts.add(context);
    context->handle = handle;
    context->legacy = std::make_shared<Stream>(d.clock, handle, CU_STREAM_DEFAULT, 0);
    context->limits[CU_LIMIT_STACK_SIZE] = 1024;
    context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
    context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
    *out = handle;
    return CUDA_SUCCESS;
}

CUresult destroy_context(Driver& d, CUcontext handle) {
    std::shared_ptr<Context> context = d.contexts.find(handle);
    if (!context) return misuse(CUDA_ERROR_INVALID_CONTEXT, "no context, or one that was destroyed");
    drain(d, *context);
    d.contexts.remove(handle);
    for (auto& [stream_handle, stream] : d.streams.all()) {
        if (stream->context() != handle) continue;
        stream->close();
        d.streams.remove(stream_handle);
    }
    context->legacy->close();
    {
        std::lock_guard lock(context->order);
        for (auto& [thread, stream] : context->per_thread) stream->close();
    }
    d.memory.release_all_of(handle);
    std::erase(context_stack(), handle);
    return CUDA_SUCCESS;
}

void drain(Driver& d, Context& c) {
    std::vector<MarkPtr> marks;
    {
        std::lock_guard lock(c.order);
        auto add = [&](const Stream& stream) {
            if (MarkPtr tail = stream.tail()) marks.push_back(std::move(tail));
        };
        add(*c.legacy);
        for (const auto& stream : c.streams) add(*stream);
        for (const auto& [thread, stream] : c.per_thread) add(*stream);
        marks.insert(marks.end(), c.orphans.begin(), c.orphans.end());
    }
    for (const MarkPtr& mark : marks) d.clock.host_waited_for(mark->wait());
}

}  // namespace simcuda
