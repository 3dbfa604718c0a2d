// spe_stream.h - the samples of one processor with Arm's SPE, from the two rings that the kernel writes.
//
// Owns:      nothing: the owner of the mappings keeps them for as long as the stream.
// Invariant: never reads outside the rings, whatever their heads, offsets and sizes are. The kernel's context-switch
//            records attribute a sample to the thread that ran on the processor at its time; if they were lost, it
//            has no thread.
// Callers:   one thread at a time.
// Fails:     samples that can't be decoded, or attributed to a thread, are counted.
// Source:    perf_event_open(2), "MMAP layout", PERF_RECORD_AUX and PERF_RECORD_SWITCH_CPU_WIDE.
#pragma once

#include <linux/perf_event.h>

#include <deque>
#include <vector>

#include "lib/sample/perf_ring.h"
#include "lib/sample/source.h"
#include "lib/sample/spe_packets.h"

namespace tierd {

// What must follow each record that is no sample: thread, time and processor.
inline constexpr uint64_t kSpeSampleFields = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;

class SpeStream {
  public:
    using Sink = SampleSource::Sink;
    // `data` and `aux` are the rings of the control page; each a power of two bytes long.
    SpeStream(perf_event_mmap_page* page, std::span<const std::byte> data, std::span<const std::byte> aux,
              uint32_t cpu, bool neoverse);

    // Passes what has come. `period`: operations that a record stands for.
    void drain(uint64_t period, const Sink& sink);
    SourceCounters counters() const;
    uint64_t without_thread() const { return without_thread_; }

  private:
    static constexpr size_t kMostSwitches = 4096;
    struct Running {
        uint64_t since_ns = 0;
        uint32_t pid = 0, tid = 0;
    };
    void on_record(uint32_t type, std::span<const std::byte> body, uint64_t period, const Sink& sink);
    void on_piece(std::span<const std::byte> body, uint64_t period, const Sink& sink);
    void decode(uint64_t offset, uint64_t bytes);
    void pass(const SpeRecord& from, uint64_t ticks_end, uint64_t end_ns, uint64_t period, const Sink& sink);
    uint64_t age_ns(uint64_t ticks) const;
    const Running* running_at(uint64_t time_ns) const;
    void note_running(Running running);

    perf_event_mmap_page* page_;
    std::span<const std::byte> aux_;
    const uint32_t cpu_;
    const bool neoverse_;
    PerfRing ring_;
    SpeDecoder decoder_;
    std::vector<SpeRecord> decoded_;  // of one piece
    std::deque<Running> running_;     // ascending by time
    uint64_t passed_ = 0;             // of the AUX ring: what its tail will be
    SourceCounters counters_;
    uint64_t without_thread_ = 0;
};

}  // namespace tierd
