// places.cc - tells tierd which bytes of weight files stand in the card's memory, so that people see where each extent is.
// Nothing is decided by it. Callers: the lease's thread, with the card's lock held.
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
        message_ = make_message<wire::LeaseShows>(wire::Kind::lease_shows, ++*sequence_);
        message_.begins = count == 0 ? 1 : 0;
    }
    void send() {
        whole_ = whole_ && send_message(socket_, &message_, sizeof message_, nullptr, 0) == 0;
        begin(1);
    }

    int socket_;
    uint32_t* sequence_;
    wire::LeaseShows message_{};
    uint32_t runs_ = 0;
    bool whole_ = true;
};

}  // namespace

void Lease::show_places() {
    const Card& card = shim().card;
    const Window& window = card.window;
    uint64_t changes = card.counters.chunks_filled + card.counters.chunks_dropped +
                       card.counters.chunks_saved + card.counters.chunks_freed;
    if (changes == shown_changes_ || !card.is_set_up()) return;
    Report report(channel_.fd, &sequence_);
    for (uint32_t row = 0; row < window.allocation_rows(); row++) {
        const Allocation& allocation = window.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
            if (!window.chunk(i).resident()) continue;
            for (uint32_t piece = window.chunk(i).pieces; piece != kNone; piece = window.piece(piece).next)
                report.add(shim().sources.number(window.piece(piece).file), window.piece(piece).offset_bytes,
                           window.piece(piece).length);
        }
    }
    if (report.end()) shown_changes_ = changes;
}

}  // namespace tierd::shim::cuda
