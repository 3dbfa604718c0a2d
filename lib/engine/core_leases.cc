// core_leases.cc - the engine's thread, between the desk that shares GPUs out and the policy that says who comes first.
#include <algorithm>

#include "lib/engine/core.h"

namespace tierd {

namespace {

// Processes show what they have once a second; those that do it more often, or show too much, are not to hold this thread up.
constexpr uint64_t kMarkEpochs = 10;

}  // namespace

// What the policy wrote since the last epoch holds from now on; then it is shown how things stand.
void Core::tend_leases() {
    if (leases_ == nullptr) return;
    if (record_.bpf == nullptr) {
        if (lease_table_.leases() > 0) leases_->set_priorities({});
        lease_table_ = {};
        return;
    }
    auto marks = record_.bpf->lease_marks();
    if (lease_table_.leases() > 0) leases_->set_priorities(lease_table_.priorities(marks));
    lease_table_.publish(leases_->gpus(), *record_.tables, marks);
    mark_extents_on_gpus();
}

// The runs are what processes say: they may lie anywhere, and all in the same place. No row is marked twice.
void Core::mark_extents_on_gpus() {
    uint64_t shown = leases_->runs_version();
    if (gpus_shown_ == shown || counters_.epochs % kMarkEpochs != 0) return;
    gpus_shown_ = shown;
    for (auto& [number, file] : files_) {
        auto rows = table_.used().subspan(file->first_extent, file->extent_count);
        for (tierd_extent& row : rows) row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_ON_GPU);
        uint64_t end = file->layout.begin(file->extent_count);
        std::vector<GpuRun> runs = leases_->runs_of(number);
        std::ranges::sort(runs, {}, &GpuRun::offset_bytes);
        uint32_t next = 0;  // rows before it are marked where they are to be
        for (const GpuRun& run : runs) {
            if (run.offset_bytes >= end || run.length_bytes == 0) continue;
            uint64_t last_byte = run.offset_bytes + std::min(run.length_bytes, end - run.offset_bytes) - 1;
            uint32_t last = file->layout.index_at(last_byte);
            for (next = std::max(next, file->layout.index_at(run.offset_bytes)); next <= last; next++)
                rows[next].flags |= TIERD_EXTENT_ON_GPU;
        }
    }
}

}  // namespace tierd
