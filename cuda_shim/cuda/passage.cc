#include "cuda_shim/cuda/passage.h"

#include "cuda_shim/cuda/shim.h"

namespace tierd::shim::cuda {

Passage::Passage(const Waiting& waiting) : waiting_(waiting) {
    open_ = shim().gate.enter();
    place_ = open_ ? Place::inside : Place::outside;
    if (!open_) close();
}

Passage::~Passage() {
    if (ticket_ != 0) shim().card.uses.launched(ticket_);
    if (place_ == Place::inside) Gate::leave();
    if (place_ == Place::locked) shim().lock.unlock();
    if (ticket_ == 0 || !waiting_.has_stream) return;
    // The card is at work on this call; the time is good for the next one's weights.
    Hold hold(shim().lock);
    if (!shim().card.is_set_up()) return;
    shim().card.read_ahead(reach_);
    shim().card.settle_gate();
}

void Passage::close() {
    if (place_ == Place::locked) return;
    if (place_ == Place::inside) Gate::leave();
    shim().lock.lock();
    place_ = Place::locked;
    open_ = false;
}

const Window& Passage::window() {
    return shim().card.window;
}

void Passage::reach_graph(CUgraphExec graph) {
    if (!open_) shim().graphs.add_reach(graph, window(), reach_);
}

void Passage::all() {
    if (!open_) reach_.everything = shim().card.window.allocated_chunks() != 0;
}

void Passage::settle_address(uint64_t address) {
    if (shim().gate.is_unused()) return;
    close();
    if (shim().card.window.find(address) == kNone) return;
    settles_ = true;
    reach_.add_address(shim().card.window, address);
}

void Passage::settle_bytes(const void* bytes, size_t length) {
    if (shim().gate.is_unused() || bytes == nullptr) return;
    close();
    Reach named;
    named.add_words(shim().card.window, bytes, length);
    settles_ = settles_ || !named.empty();
    for (uint32_t i = 0; i < named.count; i++)
        reach_.add(named.parts[i].allocation, named.parts[i].first, named.parts[i].end);
}

// What is recorded into a graph does not run now; the graph's launch makes resident what it reaches.
bool Passage::is_captured() const {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    auto* ask = TIERD_REAL(cuStreamIsCapturing);
    return waiting_.has_stream && ask != nullptr && ask(waiting_.stream, &status) == CUDA_SUCCESS &&
           status != CU_STREAM_CAPTURE_STATUS_NONE;
}

// What the call uses can't be taken away before it has ended. What is recorded into a graph does not run now.
void Passage::note_launch(bool captured) {
    Card& card = shim().card;
    if (!captured) ticket_ = card.uses.begin(card.window, reach_, waiting_.stream);
}

CUresult Passage::enter() {
    if (open_) return CUDA_SUCCESS;
    CudaShim& all = shim();
    CUresult result = CUDA_SUCCESS;
    bool captured = !reach_.empty() && is_captured();
    bool uses = !reach_.empty() && (settles_ || !captured);
    if (uses) {
        // A stream that records can't wait for what it does not record.
        Waiting waiting = captured ? no_stream(false) : waiting_;
        result = settles_ ? all.card.pin(reach_, waiting) : all.card.bring(reach_, waiting);
        if (result == CUDA_SUCCESS) note_launch(captured);
        all.card.settle_gate();
    }
    all.gate.list_this_thread();
    // Under the lock while it says so: whoever drains the gate comes after.
    if (result == CUDA_SUCCESS && uses && !all.gate.enter_listed()) return CUDA_SUCCESS;
    all.lock.unlock();
    place_ = result == CUDA_SUCCESS && uses ? Place::inside : Place::outside;
    return result;
}

}  // namespace tierd::shim::cuda
