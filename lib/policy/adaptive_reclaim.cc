// adaptive_reclaim.cc - which extents AdaptivePolicy gives up, and in which order.
//
// Invariant: one search names an extent once, and only resident ones without a pin.
#include <algorithm>
#include <array>

#include "lib/policy/adaptive.h"

namespace tierd {
namespace {

constexpr uint32_t kStaleTouches =
    64;  // untouched read-ahead is given up after as many touches of its model, at least
constexpr uint32_t kHeldLooks = 64;  // held extents compared to find the one to give up
constexpr int64_t kAskersPart =
    4;  // extents by which a model counts as larger for asking: it is about to grow

}  // namespace

void AdaptivePolicy::reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                             PolicyDecisions& out) {
    if (view.extents.empty() || !reserve(view, 0)) return;
    if (view.dram.capacity_bytes != capacity_bytes_) refresh_shares(view);
    if (++searches_ == 0) searches_ = 1;
    Search search{view, needed_bytes, out.evict};
    take_list(search, orphans_, orphans_ + 1);
    std::vector<Model*> models = by_claim();
    for (Model* model : models)
        if (!search.done() && owes(*model)) take_cheap(search, *model);
    // What is left is worth more than anything read ahead.
    if (!for_demand) return;
    for (Model* model : models)
        if (!search.done() && owes(*model)) take_untouched(search, *model);
    for (Model* model : models)
        if (!search.done() && owes(*model)) take_held(search, *model);
    for (Model* model : models)
        if (!search.done()) take_anything(search, *model);
    take_unpinned(search, orphans_ + 1);
}

// The models in the order in which they give: those silent, the longest first; then those larger than their
// share, by how far they are over it; then those that fit.
std::vector<AdaptivePolicy::Model*> AdaptivePolicy::by_claim() {
    std::vector<std::pair<int64_t, Model*>> claims;
    claims.reserve(models_.size());
    for (auto& [slot, model] : models_) {
        auto over_bytes = static_cast<int64_t>(resident_bytes(model) - model.share_bytes);
        if (slot == asking_) over_bytes += kAskersPart * static_cast<int64_t>(model.extent_bytes);
        claims.emplace_back(over_bytes, &model);
    }
    auto rank = [](const Model& model) { return model.silent ? 0 : fits(model) ? 2 : 1; };
    std::ranges::sort(claims, [&](const auto& one, const auto& other) {
        int one_rank = rank(*one.second);
        int other_rank = rank(*other.second);
        if (one_rank != other_rank) return one_rank < other_rank;
        if (one_rank == 0) return one.second->last_touch_ns < other.second->last_touch_ns;
        return one.first != other.first ? one.first > other.first : one.second->slot < other.second->slot;
    });
    std::vector<Model*> models;
    models.reserve(claims.size());
    for (auto& claim : claims) models.push_back(claim.second);
    return models;
}

// Does the model give before others lose what is worth more? One that fits owes nothing within its share,
// even for itself: then those that stream give, for what is being read for them is not counted in their
// resident extents.
bool AdaptivePolicy::owes(const Model& model) const {
    if (model.silent || resident_bytes(model) > model.share_bytes) return true;
    if (fits(model)) return false;
    auto asker = models_.find(asking_);
    return model.slot == asking_ || (asker != models_.end() && fits(asker->second));
}

// May the extent be named? On the way, puts aside what is pinned and forgets what is gone.
bool AdaptivePolicy::usable(const Search& search, ExtentLists::List pinned, ExtentId extent) {
    const tierd_extent& row = search.view.extents[extent];
    if (row.state == TIERD_EXTENT_ABSENT) lists_.remove(extent);
    if (row.state != TIERD_EXTENT_RESIDENT) return false;
    if (row.flags & TIERD_EXTENT_PINNED) {
        lists_.push_back(pinned, extent);
        return false;
    }
    return notes_[extent].named_in != searches_;
}

bool AdaptivePolicy::recent(const Model& model, const Note& note) const {
    return note.touch_clock != 0 && model.clock - note.touch_clock < model.keep;
}

void AdaptivePolicy::take(Search& search, ExtentId extent) {
    notes_[extent].named_in = searches_;
    search.victims.push_back(extent);
    search.named_bytes += search.view.extents[extent].bytes;
}

void AdaptivePolicy::take_list(Search& search, ExtentLists::List list, ExtentLists::List pinned) {
    for (ExtentId extent = lists_.head(list); extent != kNoExtent && !search.done();) {
        ExtentId next = lists_.next(extent);
        if (usable(search, pinned, extent)) take(search, extent);
        extent = next;
    }
}

// Pins may have gone since the extents were put aside.
void AdaptivePolicy::take_unpinned(Search& search, ExtentLists::List pinned) {
    for (ExtentId extent = lists_.head(pinned); extent != kNoExtent && !search.done();
         extent = lists_.next(extent)) {
        const tierd_extent& row = search.view.extents[extent];
        bool free = row.state == TIERD_EXTENT_RESIDENT && !(row.flags & TIERD_EXTENT_PINNED);
        if (free && notes_[extent].named_in != searches_) take(search, extent);
    }
}

// What costs nothing or little: everything of a silent model; else read-ahead that was not touched, then what
// was touched and is neither held nor still being read.
void AdaptivePolicy::take_cheap(Search& search, const Model& model) {
    ExtentLists::List pinned = model.lists + kPinned;
    if (model.silent) {
        for (uint32_t kind = 0; kind < kPinned; ++kind) take_list(search, model.lists + kind, pinned);
        return;
    }
    uint32_t stale = std::max(kStaleTouches, 4 * model.window);
    for (uint32_t kind = kAhead; kind < kHeld; ++kind) {
        for (ExtentId extent = lists_.head(model.lists + kind); extent != kNoExtent && !search.done();) {
            ExtentId next = lists_.next(extent);
            const Note& note = notes_[extent];
            if (kind == kAhead && model.clock - note.touch_clock <= stale) break;
            if (!recent(model, note) && usable(search, pinned, extent)) take(search, extent);
            extent = next;
        }
    }
}

// What was read ahead last is touched last.
void AdaptivePolicy::take_untouched(Search& search, const Model& model) {
    for (ExtentId extent = lists_.tail(model.lists + kAhead); extent != kNoExtent && !search.done();) {
        ExtentId previous = lists_.previous(extent);
        if (usable(search, model.lists + kPinned, extent)) take(search, extent);
        extent = previous;
    }
}

// Held extents, of some at a time those with the highest keys: so the held set shrinks and stays evenly
// spread.
void AdaptivePolicy::take_held(Search& search, Model& model) {
    ExtentLists::List held = model.lists + kHeld;
    uint32_t left = lists_.size(held);
    size_t named_before = search.victims.size();
    while (left > 0 && !search.done()) {
        std::vector<ExtentId> looked;
        for (; left > 0 && looked.size() < kHeldLooks; --left) {
            ExtentId extent = lists_.head(held);
            lists_.push_back(held, extent);
            if (usable(search, model.lists + kPinned, extent)) looked.push_back(extent);
        }
        std::ranges::sort(looked, std::greater<>{}, [&](ExtentId extent) { return hold_key(model, extent); });
        for (ExtentId extent : looked)
            if (!search.done()) take(search, extent);
    }
    model.cut += static_cast<uint32_t>(search.victims.size() - named_before);
    resize_hold(model);
}

void AdaptivePolicy::take_anything(Search& search, Model& model) {
    take_cheap(search, model);
    take_untouched(search, model);
    for (uint32_t kind = 0; kind < kPinned; ++kind)
        take_list(search, model.lists + kind, model.lists + kPinned);
    take_unpinned(search, model.lists + kPinned);
}

}  // namespace tierd
