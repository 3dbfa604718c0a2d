// spe_source.h - Arm's Statistical Profiling Extension on every processor that has it.
//
// Owns:      the events' descriptors and both rings of each.
// Callers:   one thread at a time.
// Fails:     at open(), with what to do.
// Source:    Documentation/arch/arm64/perf.rst and drivers/perf/arm_spe_pmu.c of the kernel name the bits of its config.
#pragma once

#include <memory>
#include <vector>

#include "lib/base/fd.h"
#include "lib/sample/spe_stream.h"

namespace tierd {

class SpeSource final : public SampleSource {
  public:
    // Every process, user code only. Errors: unsupported where the machine has no SPE; those of open_event(); no_space.
    static Result<std::unique_ptr<SpeSource>> open(bool stores);

    std::string_view name() const override { return "arm_spe_0"; }
    void drain(const Sink& sink) override;
    SourceCounters counters() const override;
    Result<void> set_period(uint64_t period) override;
    uint64_t period() const override { return period_; }
    void set_recording(bool on) override;

  private:
    struct Processor {
        Fd event;
        Mapping data;
        Mapping aux;
        std::unique_ptr<SpeStream> stream;
    };
    SpeSource() = default;
    Result<void> open_on(int cpu, perf_event_attr& attr);

    uint64_t period_ = 0;
    std::vector<Processor> processors_;
};

}  // namespace tierd
