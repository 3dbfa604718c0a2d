#include "cuda_shim/cuda/residency_report.h"

#include "cuda_shim/host/session.h"
#include "lib/session/wire.h"

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

bool send_residency(int socket, uint32_t* sequence, const ReservedRange& range, const Sources& sources) {
    Report report(socket, sequence);
    for (uint32_t row = 0; row < range.allocation_rows(); row++) {
        const Allocation& allocation = range.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
            if (!range.chunk(i).resident()) continue;
            for (uint32_t next = range.chunk(i).slices; next != kNone; next = range.slice(next).next) {
                const FileSlice& slice = range.slice(next);
                report.add(sources.number(slice.file), slice.offset_bytes, slice.length);
            }
        }
    }
    return report.end();
}

}  // namespace tierd::shim::cuda
