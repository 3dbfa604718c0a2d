// places.cc - tells tierd which bytes of weight files stand in the GPU's memory, so that people see where each extent is.
// Nothing is decided by it. Callers: the lease's thread, with the GPU's lock held.
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/session.h"

namespace tierd::shim::cuda {

namespace {

constexpr uint32_t kMaxRuns = 4096;  // of a report; what is behind them is not told

// One report, in as many messages as it takes.
class Report {
  public:
    Report(int socket, uint32_t* sequence) : socket_(socket), sequence_(sequence) { begin(0); }

    void add(uint64_t file, uint64_t offset_bytes, uint64_t length_bytes) {
        if (runs_ == kMaxRuns || file == 0) return;
        uint32_t room = sizeof message_.runs / sizeof message_.runs[0];
        if (message_.count > 0 && message_.file == file) {
            auto& last = message_.runs[message_.count - 1];
            if (last.offset_bytes + last.length_bytes == offset_bytes) {
                last.length_bytes += length_bytes;
                return;
            }
        }
        if (message_.count == room || (message_.count > 0 && message_.file != file)) send();
        message_.file = file;
        message_.runs[message_.count++] = {offset_bytes, length_bytes};
        runs_++;
    }
    // False when tierd did not take all of it.
    bool end() {
        if (message_.count > 0 || message_.begins != 0) send();
        return whole_;
    }

  private:
    void begin(uint32_t count) {
        message_ = make_message<wire::LeaseResidency>(wire::Kind::lease_residency, ++*sequence_);
        message_.begins = count == 0 ? 1 : 0;
    }
    void send() {
        whole_ = whole_ && send_message(socket_, &message_, sizeof message_, nullptr, 0) == 0;
        begin(1);
    }

    int socket_;
    uint32_t* sequence_;
    wire::LeaseResidency message_{};
    uint32_t runs_ = 0;
    bool whole_ = true;
};

}  // namespace

void Lease::report_residency() {
    const Gpu& gpu = shim().gpu;
    const ReservedRange& range = gpu.range;
    uint64_t changes = gpu.counters.chunks_filled + gpu.counters.chunks_dropped + gpu.counters.chunks_saved +
                       gpu.counters.chunks_freed;
    if (changes == reported_changes_ || !gpu.is_set_up()) return;
    Report report(channel_.fd, &sequence_);
    for (uint32_t row = 0; row < range.allocation_rows(); row++) {
        const Allocation& allocation = range.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
            if (!range.chunk(i).resident()) continue;
            for (uint32_t slice = range.chunk(i).slices; slice != kNone; slice = range.slice(slice).next)
                report.add(shim().sources.number(range.slice(slice).file), range.slice(slice).offset_bytes,
                           range.slice(slice).length);
        }
    }
    if (report.end()) reported_changes_ = changes;
}

}  // namespace tierd::shim::cuda
