#include "lib/engine/placement_auditor.h"

#include <algorithm>
#include <cerrno>

#include "lib/engine/weight_file.h"
#include "lib/migrate/node_memory.h"

namespace tierd {

namespace {

constexpr uint32_t kRowsAnEpoch = 4096;
// Pages that the kernel is asked for in an epoch, some 100 µs; and after suspect_all(), when it pays.
constexpr size_t kPages = 512;
constexpr size_t kSuspectPages = 8192;

}  // namespace

void PlacementAuditor::suspect_all() {
    suspect_rows_ = 2 * placement_.extents().size();
}

void PlacementAuditor::check_some() {
    Extents& extents = placement_.extents();
    const uint32_t rows = extents.size();
    const size_t may_ask = suspect_rows_ > 0 ? kSuspectPages : kPages;
    size_t asked = 0;
    uint32_t looked = 0;
    for (; looked < std::min(rows, kRowsAnEpoch) && asked < may_ask; looked++) {
        if (next_ >= rows) next_ = 0;
        ExtentId id = next_++;
        if (!extents.is(id, TIERD_EXTENT_RESIDENT) || placement_.mover().is_moving(id)) continue;
        asked += check(id);
    }
    suspect_rows_ -= std::min(suspect_rows_, looked);
}

// All its pages, since memory goes offline by blocks, whose edges lie anywhere in an extent. Found in another tier as a whole
// it counts there, where that has space for it; else it is evicted. Split, it is consolidated. Returns how many pages the
// kernel was asked for.
size_t PlacementAuditor::check(ExtentId id) {
    Extents& extents = placement_.extents();
    TierTable& tiers = placement_.tiers();
    const Tier* believed = tiers.find(extents[id].tier);
    PlacedFile* placed = extents.find(id);
    if (believed == nullptr || believed->spec.nodes.empty() || placed == nullptr) return 0;
    const WeightFile& file = served(*placed);
    PageRange pages{file.arena.at(file.offset_of(id)), file.memory_of(id), file.arena.page_bytes()};
    if (auto mapped = map_pages(pages); !mapped) {
        if (mapped.error().err == ENOENT) placement_.lost(id);
        return pages.pages();
    }
    auto found = find_pages(pages);
    if (!found || found->bytes_off(believed->spec.nodes) == 0) return pages.pages();
    placement_.counters().placements_corrected++;
    Tier* real = tiers.find_by_node(found->bytes_on.begin()->first);
    bool whole = real != nullptr && found->bytes_off(real->spec.nodes) == 0;
    if (whole && tiers.grant_in(real->number, pages.length_bytes)) {
        tiers.give_back(believed->number, pages.length_bytes);
        extents[id].tier = real->number;
    } else if (whole || !placement_.mover().consolidate(id)) {
        placement_.evictor().start(id);
    }
    return pages.pages();
}

}  // namespace tierd
