#include "lib/engine/gpu_leases.h"

#include <algorithm>

namespace tierd {

// Processes show what they have once a second; those that do it more often, or show too much, are not to hold this thread up.
static constexpr uint64_t kMarkEpochs = 10;

void GpuLeases::update() {
    if (arbitrator_ == nullptr) return;
    const BpfPolicy* policy = placement_.policy().bpf();
    if (policy == nullptr) {
        if (table_.leases() > 0) arbitrator_->set_priorities({});
        table_ = {};
    } else {
        auto marks = policy->lease_contexts();
        if (table_.leases() > 0) arbitrator_->set_priorities(table_.priorities(marks));
        table_.publish(arbitrator_->gpus(), *placement_.policy().tables(), marks);
        mark_rows();
    }
    placement_.policy().set_gpus(table_.gpus(), table_.leases());
}

void GpuLeases::mark_rows() {
    uint64_t shown = arbitrator_->runs_version();
    if (marked_ == shown || placement_.counters().epochs % kMarkEpochs != 0) return;
    marked_ = shown;
    for (auto& [number, file] : files_.all()) mark_rows(*file, arbitrator_->runs_of(number));
}

// The runs are what processes say: they may lie anywhere, and all in the same place.
void GpuLeases::mark_rows(const WeightFile& file, std::vector<GpuRun> runs) {
    auto rows = placement_.extents().used().subspan(file.first_extent, file.extent_count);
    for (tierd_extent& row : rows) row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_ON_GPU);
    uint64_t end = file.layout.begin(file.extent_count);
    std::ranges::sort(runs, {}, &GpuRun::offset_bytes);
    uint32_t next = 0;  // rows before it are marked where they are to be
    for (const GpuRun& run : runs) {
        if (run.offset_bytes >= end || run.length_bytes == 0) continue;
        uint64_t last_byte = run.offset_bytes + std::min(run.length_bytes, end - run.offset_bytes) - 1;
        uint32_t last = file.layout.index_at(last_byte);
        for (next = std::max(next, file.layout.index_at(run.offset_bytes)); next <= last; next++)
            rows[next].flags |= TIERD_EXTENT_ON_GPU;
    }
}

}  // namespace tierd
