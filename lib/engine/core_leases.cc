// core_leases.cc - the engine's thread, between the desk that shares cards out and the policy that says who comes first.
#include "lib/engine/core.h"

namespace tierd {

// What the policy wrote since the last epoch holds from now on; then it is shown how things stand.
void Core::tend_leases() {
    if (leases_ == nullptr) return;
    if (record_.bpf == nullptr) {
        if (lease_table_.leases() > 0) leases_->rank({});
        lease_table_ = {};
        return;
    }
    auto marks = record_.bpf->lease_marks();
    if (lease_table_.leases() > 0) leases_->rank(lease_table_.worths(marks));
    lease_table_.publish(leases_->cards(), *record_.tables, marks);
    mark_extents_on_cards();
}

// The runs are what processes say: they may lie anywhere.
void Core::mark_extents_on_cards() {
    uint64_t shown = leases_->shown();
    if (cards_shown_ == shown) return;
    cards_shown_ = shown;
    for (auto& [number, file] : files_) {
        auto rows = table_.used().subspan(file->first_extent, file->extent_count);
        for (tierd_extent& row : rows) row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_ON_CARD);
        uint64_t end = file->layout.begin(file->extent_count);
        for (const CardRun& run : leases_->runs_of(number)) {
            if (run.offset_bytes >= end || run.length_bytes == 0) continue;
            uint64_t last_byte = run.offset_bytes + std::min(run.length_bytes, end - run.offset_bytes) - 1;
            uint32_t last = file->layout.index_at(last_byte);
            for (uint32_t index = file->layout.index_at(run.offset_bytes); index <= last; index++)
                rows[index].flags |= TIERD_EXTENT_ON_CARD;
        }
    }
}

}  // namespace tierd
