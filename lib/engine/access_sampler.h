// access_sampler.h - the processor's samples of accesses, and who made them.
//
// Owns:      the sampler of the source in use, the history of mappings that attributes its records, and the readers seen.
// Invariant: one source at a time counts touches: the sampler, or hints (hinter.h).
// Callers:   the engine's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/engine/client.h"
#include "lib/engine/files.h"
#include "lib/engine/sampler.h"
#include "lib/placement/placement.h"
#include "lib/sample/attribution.h"
#include "lib/sample/hot.h"

namespace tierd {

class AccessSampler {
  public:
    AccessSampler(Placement& placement, FileRegistry& files) : placement_(placement), files_(files) {}

    void start(const std::string& source, std::unique_ptr<Sampler> sampler);
    void take(const SampleBatch& batch);
    void pause(bool paused);
    // Every epoch: shows the sampler the mappings as they are, and lets what was read long ago fade.
    void epoch(uint64_t now_ns);

    // What a process has mapped; kept for the sampler only.
    void on_mapped(const Client& client, const Region& region);
    void on_unmapped(const Client& client, uint64_t address, uint64_t length_bytes);
    void on_process_end(const Client& client);

    bool is_running() const { return sampler_ != nullptr; }
    bool is_paused() const { return paused_; }
    const std::string& source() const { return source_; }
    SamplerStatus status() const { return sampler_->status(); }
    Readers& readers() { return readers_; }

  private:
    Placement& placement_;
    FileRegistry& files_;
    std::string source_;
    std::unique_ptr<Sampler> sampler_;  // may be null
    MappingHistory mappings_;           // kept only for the sampler
    Readers readers_;
    uint64_t readers_decayed_ns_ = 0;
    bool paused_ = false;
};

}  // namespace tierd
