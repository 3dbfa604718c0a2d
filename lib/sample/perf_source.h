// perf_source.h - a perf event on several CPUs or threads, and the rings of its records.
//
// Owns:      the events' descriptors and the rings' mappings.
// Invariant: each CPU has one ring; events of further threads on that CPU write into the same ring.
// Callers:   one thread at a time.
// Fails:     at open(), with what to do. A thread that ends later has no more records.
#pragma once

#include <linux/perf_event.h>

#include <memory>
#include <optional>
#include <vector>

#include "lib/base/fd.h"
#include "lib/sample/perf_ring.h"
#include "lib/sample/perf_sample.h"
#include "lib/sample/source.h"

namespace tierd {

struct PerfSourceConfig {
    std::string name;                       // for people
    perf_event_attr attr{};                 // see sampling_attr()
    std::optional<perf_event_attr> leader;  // an event that must lead its group; it only counts
    pid_t process = -1;                     // all its threads, those to come too; -1: every process
    uint64_t ring_bytes = 512 * 1024;       // for each CPU; a power of two of pages
    bool this_thread = false;               // the calling thread alone, on any CPU; for measuring and tests
};

class PerfSource final : public SampleSource {
  public:
    // Opens, maps and starts. Errors: those of open_event(); no_space where rings can't be locked in memory.
    static Result<std::unique_ptr<PerfSource>> open(const PerfSourceConfig& config);

    std::string_view name() const override { return config_.name; }
    void drain(const Sink& sink) override;
    SourceCounters counters() const override;
    Result<void> set_period(uint64_t period) override;
    uint64_t period() const override { return config_.attr.sample_period; }

    void set_recording(bool on) override;

  private:
    struct Ring {
        Mapping mapping;
        PerfRing reader;
    };
    explicit PerfSource(const PerfSourceConfig& config);
    Result<void> open_everywhere();
    Result<void> open_on_cpu(int cpu, const std::vector<pid_t>& threads);
    Result<Fd> open_one(pid_t thread, int cpu);
    Result<void> add_ring(const Fd& event);
    void on_record(uint32_t type, std::span<const std::byte> body, const Sink& sink);

    PerfSourceConfig config_;
    SampleFormat format_;
    std::vector<Fd> leaders_;
    std::vector<Fd> events_;
    std::vector<Ring> rings_;
    SourceCounters counters_;
};

}  // namespace tierd
