#include "lib/engine/access_sampler.h"

#include "lib/base/clock.h"

namespace tierd {

static constexpr double kReadersHalfLife = 0.5;  // of who read what, each kHeatHalfLifeNs

void AccessSampler::start(const std::string& source, std::unique_ptr<Sampler> sampler) {
    source_ = source;
    sampler_ = std::move(sampler);
}

void AccessSampler::take(const SampleBatch& batch) {
    const uint64_t now = monotonic_ns();
    Extents& extents = placement_.extents();
    for (const SampleBatch::Extent& seen : batch.extents) {
        auto file = files_.find(seen.file);
        if (file == nullptr || seen.index >= file->extent_count) continue;
        ExtentId id = file->first_extent + seen.index;
        // Lines of memory, as parts of the extent: so heat means the same from every source.
        double touches = seen.accesses * 64 / file->memory_of(id);
        extents.heat().count(id, touches, now);
        extents.heat().read_from(id, seen.node, touches, now);
        HeatEstimator::Estimate estimate = extents.heat().estimate(id, now);
        extents[id].heat = estimate.heat;
        extents[id].samples = estimate.samples;
        if (seen.last_ns > extents[id].last_touch_ns) extents[id].last_touch_ns = seen.last_ns;
    }
    for (const SampleBatch::Reader& reader : batch.readers)
        readers_.add(reader.model, reader.code, reader.pid, reader.tid, reader.node, reader.accesses);
}

void AccessSampler::pause(bool paused) {
    paused_ = paused;
    if (sampler_ != nullptr) sampler_->pause(paused);
}

void AccessSampler::epoch(uint64_t now_ns) {
    if (now_ns > readers_decayed_ns_ + kHeatHalfLifeNs) {
        readers_.decay(kReadersHalfLife);
        readers_decayed_ns_ = now_ns;
    }
    if (sampler_ != nullptr) sampler_->see(mappings_.publish(now_ns));
}

void AccessSampler::on_mapped(const Client& client, const Region& region) {
    if (sampler_ == nullptr) return;
    if (region.file->sampled == nullptr) {
        auto sampled = std::make_shared<SampledFile>();
        sampled->number = region.file->number;
        sampled->name = region.file->name;
        sampled->layout = region.file->layout;
        region.file->sampled = std::move(sampled);
    }
    mappings_.add(static_cast<uint32_t>(client.peer.pid), {.address = region.address,
                                                           .length_bytes = region.length_bytes,
                                                           .offset_bytes = region.offset_bytes,
                                                           .since_ns = monotonic_ns(),
                                                           .file = region.file->sampled});
}

void AccessSampler::on_unmapped(const Client& client, uint64_t address, uint64_t length_bytes) {
    if (sampler_ != nullptr)
        mappings_.remove(static_cast<uint32_t>(client.peer.pid), address, length_bytes, monotonic_ns());
}

void AccessSampler::on_process_end(const Client& client) {
    if (sampler_ != nullptr) mappings_.end_process(static_cast<uint32_t>(client.peer.pid), monotonic_ns());
}

}  // namespace tierd
