#include "lib/engine/sampler.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "lib/base/clock.h"
#include "lib/base/worker.h"

namespace tierd {

namespace {

constexpr size_t kMostWaiting =
    1u << 18;  // a map comes every epoch; more than this is an engine that stands still

}  // namespace

Sampler::Sampler(std::unique_ptr<SampleSource> source, const SamplerConfig& config, Deliver deliver)
    : source_(std::move(source)),
      config_(config),
      deliver_(std::move(deliver)),
      period_(source_->period(), config.limits),
      thread_([this] { run(); }) {}

Sampler::~Sampler() {
    stop_ = true;
    thread_.join();
}

void Sampler::see(std::shared_ptr<const AddressMap> map) {
    std::lock_guard lock(mutex_);
    map_ = std::move(map);
}

SamplerStatus Sampler::status() const {
    std::lock_guard lock(mutex_);
    return status_;
}

void Sampler::run() {
    name_this_thread("tierd-sample");
    steered_ns_ = monotonic_ns();
    while (!stop_) {
        round();
        std::this_thread::sleep_for(std::chrono::milliseconds(config_.round_ms));
    }
}

void Sampler::round() {
    if (bool record = !paused_; record != recording_) {
        source_->set_recording(record);
        recording_ = record;
    }
    std::shared_ptr<const AddressMap> map;
    {
        std::lock_guard lock(mutex_);
        map = map_;
    }
    std::vector<AccessRecord> records = std::exchange(waiting_, {});
    source_->drain([&](const AccessRecord& record) {
        if (!config_.wanted || config_.wanted(record)) records.push_back(record);
    });
    if (map == nullptr) return;  // nobody has weights mapped
    for (const AccessRecord& record : records) {
        if (record.time_ns <= map->as_of_ns())
            attribute(record, *map);
        else if (waiting_.size() < kMostWaiting)
            waiting_.push_back(record);
    }
    SampleBatch batch;
    for (auto& [key, extent] : extents_) batch.extents.push_back(extent);
    for (auto& [key, accesses] : readers_)
        batch.readers.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), std::get<3>(key),
                                 std::get<4>(key), accesses});
    extents_.clear();
    readers_.clear();
    if (!batch.extents.empty()) deliver_(std::move(batch));
    steer(monotonic_ns(), thread_cpu_ns());
}

void Sampler::attribute(const AccessRecord& record, const AddressMap& map) {
    Place place = map.find(record.pid, record.address, record.time_ns);
    if (place.found != Found::yes) {
        std::lock_guard lock(mutex_);
        (place.found == Found::ended_process ? status_.stale : status_.unattributed)++;
        return;
    }
    int node = cpus_.node_of(record.cpu);
    SampleBatch::Extent& extent = extents_[{place.file->number, place.extent, node}];
    extent.file = place.file->number;
    extent.index = place.extent;
    extent.node = node;
    extent.accesses += static_cast<double>(record.period);
    extent.last_ns = std::max(extent.last_ns, record.time_ns);
    CodePlace code = code_.find(record.pid, record.instruction, record.time_ns);
    readers_[{place.file->name, code, record.pid, record.tid, node}] += static_cast<double>(record.period);
}

// Once a second, so that there is something to measure.
void Sampler::steer(uint64_t now_ns, uint64_t cpu_ns) {
    SourceCounters counters = source_->counters();
    if (now_ns - steered_ns_ >= kNsPerSecond) {
        // Records that were lost have cost their interrupt too.
        uint64_t records = counters.records + counters.lost;
        uint64_t period = period_.step(now_ns - steered_ns_, records - steered_records_,
                                       cpu_ns - steered_cpu_ns_, config_.record_cost_ns);
        if (period != source_->period()) (void)source_->set_period(period);
        steered_ns_ = now_ns;
        steered_cpu_ns_ = cpu_ns;
        steered_records_ = records;
    }
    std::lock_guard lock(mutex_);
    status_.counters = counters;
    status_.period = source_->period();
    status_.cost_share = period_.cost_share();
}

}  // namespace tierd
