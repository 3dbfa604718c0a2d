#include "cuda_shim/cuda/launch_scope.h"

#include "cuda_shim/cuda/shim.h"

namespace tierd::shim::cuda {

LaunchScope::LaunchScope(const Waiter& waiting) : waiting_(waiting) {
    open_ = shim().gate.enter();
    place_ = open_ ? Place::inside : Place::outside;
    if (!open_) close();
}

LaunchScope::~LaunchScope() {
    if (fence_ != 0) shim().gpu.in_flight.launched(fence_);
    if (place_ == Place::inside) Gate::leave();
    if (place_ == Place::locked) shim().lock.unlock();
    if (fence_ == 0 || !waiting_.has_stream) return;
    // The GPU is at work on this call; the time is good for the next one's weights.
    LockGuard guard(shim().lock);
    if (!shim().gpu.is_set_up()) return;
    shim().gpu.residency.read_ahead(access_);
    shim().gpu.residency.update_gate();
}

void LaunchScope::close() {
    if (place_ == Place::locked) return;
    if (place_ == Place::inside) Gate::leave();
    shim().lock.lock();
    place_ = Place::locked;
    open_ = false;
}

const ReservedRange& LaunchScope::range() {
    return shim().gpu.range;
}

void LaunchScope::access_graph(CUgraphExec graph) {
    if (!open_) shim().graphs.add_access(graph, range(), access_);
}

void LaunchScope::all() {
    if (!open_) access_.everything = shim().gpu.range.allocated_chunks() != 0;
}

void LaunchScope::pin_address(uint64_t address) {
    if (shim().gate.is_unused()) return;
    close();
    if (shim().gpu.range.find(address) == kNone) return;
    pins_ = true;
    access_.add_address(shim().gpu.range, address);
}

void LaunchScope::pin_bytes(const void* bytes, size_t length) {
    if (shim().gate.is_unused() || bytes == nullptr) return;
    close();
    AccessSet named;
    named.add_words(shim().gpu.range, bytes, length);
    pins_ = pins_ || !named.empty();
    for (uint32_t i = 0; i < named.count; i++)
        access_.add(named.parts[i].allocation, named.parts[i].first, named.parts[i].end);
}

// What is recorded into a graph does not run now; the graph's launch makes resident what it reaches.
bool LaunchScope::is_captured() const {
    return waiting_.has_stream && driver::is_captured(waiting_.stream);
}

// What the call uses can't be taken away before it has ended. What is recorded into a graph does not run now.
void LaunchScope::note_launch(bool captured) {
    Gpu& gpu = shim().gpu;
    if (!captured) fence_ = gpu.in_flight.begin(gpu.range, access_, waiting_.stream);
}

CUresult LaunchScope::enter() {
    if (open_) return CUDA_SUCCESS;
    CudaShim& all = shim();
    CUresult result = CUDA_SUCCESS;
    bool captured = !access_.empty() && is_captured();
    bool uses = !access_.empty() && (pins_ || !captured);
    if (uses) {
        // A stream that records can't wait for what it does not record.
        Waiter waiting = captured ? no_stream(false) : waiting_;
        result = pins_ ? all.gpu.residency.pin(access_, waiting)
                       : all.gpu.residency.make_resident(access_, waiting);
        if (result == CUDA_SUCCESS) note_launch(captured);
        all.gpu.residency.update_gate();
    }
    all.gate.list_this_thread();
    // Under the lock while it says so: whoever drains the gate comes after.
    if (result == CUDA_SUCCESS && uses && !all.gate.enter_listed()) return CUDA_SUCCESS;
    all.lock.unlock();
    place_ = result == CUDA_SUCCESS && uses ? Place::inside : Place::outside;
    return result;
}

}  // namespace tierd::shim::cuda
