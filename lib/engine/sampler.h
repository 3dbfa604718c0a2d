// sampler.h - the thread that reads the processor's samples and says which extents they are about.
//
// Owns:      the thread and its source.
// Invariant: a record is attributed with a map that is at least as young as the record: it waits for the next one if need be.
// Callers:   see() from the engine's thread, status() from any. What it finds goes through `deliver`, from its own thread.
// Fails:     records that belong to nobody are counted; a source that fails stays silent, which its counters show.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/sample/attribution.h"
#include "lib/sample/code_map.h"
#include "lib/sample/period.h"
#include "lib/sample/source.h"

namespace tierd {

// What came in one round, by extent and by reader.
struct SampleBatch {
    struct Extent {
        uint64_t file = 0;
        uint32_t index = 0;
        int node = kNoNode;  // of the processors that read it; one row for each
        double accesses = 0;
        uint64_t last_ns = 0;
    };
    struct Reader {
        std::string model;
        CodePlace code;
        uint32_t pid = 0;
        uint32_t tid = 0;
        int node = kNoNode;
        double accesses = 0;
    };
    std::vector<Extent> extents;
    std::vector<Reader> readers;
};

struct SamplerStatus {
    SourceCounters counters;
    uint64_t unattributed = 0;  // records of other processes, and of addresses that are no weights
    uint64_t stale = 0;         // records of sessions that have ended
    uint64_t period = 0;
    double cost_share = 0;  // of one core
};

struct SamplerConfig {
    PeriodControl::Limits limits;
    uint64_t record_cost_ns = 1000;  // of the sampled thread; see measure_record_cost_ns()
    uint32_t round_ms = 20;
    std::function<bool(const AccessRecord&)> wanted;  // empty: every record is
};

class Sampler {
  public:
    using Deliver = std::function<void(SampleBatch)>;
    Sampler(std::unique_ptr<SampleSource> source, const SamplerConfig& config, Deliver deliver);
    ~Sampler();  // ends the thread
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    void see(std::shared_ptr<const AddressMap> map);
    // Nothing is recorded while paused. Any thread; takes effect in the next round.
    void pause(bool paused) { paused_ = paused; }
    SamplerStatus status() const;

  private:
    void run();
    void round();
    void attribute(const AccessRecord& record, const AddressMap& map);
    void steer(uint64_t now_ns, uint64_t cpu_ns);

    std::unique_ptr<SampleSource> source_;
    const SamplerConfig config_;
    Deliver deliver_;
    PeriodControl period_;
    CodeMap code_{true};
    std::vector<AccessRecord> waiting_;  // younger than the map
    const CpuNodes cpus_ = CpuNodes::read();
    std::map<std::tuple<uint64_t, uint32_t, int>, SampleBatch::Extent> extents_;
    std::map<std::tuple<std::string, CodePlace, uint32_t, uint32_t, int>, double> readers_;
    uint64_t steered_ns_ = 0;
    uint64_t steered_cpu_ns_ = 0;
    uint64_t steered_records_ = 0;

    mutable std::mutex mutex_;  // guards the two below; held for copies only
    std::shared_ptr<const AddressMap> map_;
    SamplerStatus status_;
    std::atomic<bool> stop_{false};
    std::atomic<bool> paused_{false};
    bool recording_ = true;
    std::thread thread_;  // last: it uses everything above
};

}  // namespace tierd
