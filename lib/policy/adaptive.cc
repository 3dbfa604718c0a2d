#include "lib/policy/adaptive.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/policy/shares.h"

namespace tierd {
namespace {

constexpr uint64_t kSilentNs = 10 * kNsPerSecond;
constexpr uint32_t kSamplesNeeded = 16;  // judged touches before a mode is chosen
constexpr uint32_t kInOrder = 192;       // score from which a model is swept
constexpr uint32_t kAtRandom = 128;      // score up to which it is not; between them the mode stays
constexpr uint32_t kModeTouches = 64;    // touches that a mode is given before it may change
constexpr uint32_t kKeep = 4;            // the last touched extents are still being read
constexpr uint32_t kWindowPart = 32;     // the window is this part of the share ...
constexpr uint32_t kStreamedPart = 16;   // ... at most this of what the share has no room for ...
constexpr uint32_t kWindowLeast = 6;     // ... within these bounds, in extents
constexpr uint32_t kWindowTiny = 4;      // but at most a quarter of the share, unless that is less than this
constexpr uint32_t kWindowMost = 64;
constexpr uint64_t kWindowMostBytes = 64 * kMiB;  // for small extents
constexpr uint32_t kHoldDrift = 1u << 26;  // a hold that changed by 1/64 is worth sorting the lists for
constexpr uint32_t kMissesMost = 64;       // counted of one extent
// Both in touches, as multiples of the extents that the model has in memory. Chosen on Zipf and uniform
// traces, with and without experts that change their popularity: shorter ones forget the popular, longer ones
// keep what no longer is.
constexpr uint32_t kHalfLifeParts = 4;
constexpr uint32_t kStayParts = 2;
// Watched are those that go within kWatchedEpochs if as much is read as lately, but no more than this part of what is
// resident: each costs the engine a fault.
constexpr double kWatchedEpochs = 32;
constexpr uint32_t kWatchedPart = 6;
constexpr double kFillsKept = 7.0 / 8;  // of the average of fills, each epoch
constexpr uint32_t kSiblings = 32;
constexpr uint32_t kPinnedLooks = 64;  // pinned extents looked at again in an epoch
constexpr uint32_t kCutEpochs =
    16;  // epochs after which an eighth of the held extents that demand took is tried again

}  // namespace

// Multiples of the golden ratio's fraction fall evenly into the circle, however many there are: the extents
// with a key below any bound are spread evenly over the file.
uint32_t AdaptivePolicy::hold_key(const Model& model, ExtentId extent) {
    return (extent - model.first_extent) * 0x9E3779B9u;
}

Mode AdaptivePolicy::mode(uint32_t model) const {
    auto found = models_.find(model);
    return found == models_.end() ? Mode::lru : found->second.mode;
}

bool AdaptivePolicy::reserve(const PolicyView& view, ExtentId extent) {
    if (notes_.size() < view.extents.size()) {
        notes_.resize(view.extents.size());
        lists_.reserve_rows(view.extents.size());
    }
    return extent < view.extents.size();
}

AdaptivePolicy::Model* AdaptivePolicy::model_of(const PolicyView& view, ExtentId extent) {
    auto found = models_.find(view.extents[extent].model);
    if (found == models_.end()) return nullptr;
    Model& model = found->second;
    bool inside = extent >= model.first_extent && extent - model.first_extent < model.extent_count;
    return inside ? &model : nullptr;
}

uint64_t AdaptivePolicy::resident_bytes(const Model& model) const {
    uint64_t bytes = 0;
    for (uint32_t kind = 0; kind < kKinds; ++kind) bytes += lists_.bytes(model.lists + kind);
    return bytes;
}

uint32_t AdaptivePolicy::resident_extents(const Model& model) const {
    uint32_t extents = 0;
    for (uint32_t kind = 0; kind < kKinds; ++kind) extents += lists_.size(model.lists + kind);
    return extents;
}

// Of the pinned extents, those that were met while looking for victims.
uint64_t AdaptivePolicy::pinned_bytes(const Model& model) const {
    return lists_.bytes(model.lists + kPinned);
}

bool AdaptivePolicy::fits(const Model& model) {
    return model.share_bytes >= model.bytes;
}

void AdaptivePolicy::model_open(const PolicyView& view, const PolicyModel& opened) {
    model_close(view, opened.model);
    if (opened.extent_count == 0 || !reserve(view, opened.first_extent)) return;
    Model model;
    model.slot = opened.model;
    model.first_extent = opened.first_extent;
    uint64_t rows = view.extents.size() - opened.first_extent;
    model.extent_count = static_cast<uint32_t>(std::min<uint64_t>(opened.extent_count, rows));
    model.lists = lists_.take_block();
    model.last_touch_ns = view.now_ns;
    bool experts = false;
    for (uint32_t index = 0; index < model.extent_count; ++index) {
        const tierd_extent& row = view.extents[model.first_extent + index];
        notes_[model.first_extent + index] = Note{};
        model.bytes += row.bytes;
        if (row.role == TIERD_ROLE_EXPERT)
            experts = true;
        else
            model.held_kind_bytes += row.bytes;
    }
    model.extent_bytes = std::max<uint64_t>(model.bytes / std::max(model.extent_count, 1u), 1);
    if (!experts) model.held_kind_bytes = 0;
    Model& kept = models_.emplace(model.slot, model).first->second;
    read_ahead_.model_open(view, opened);
    predictor_.model_open(view, opened);
    refresh_shares(view);
    adopt_resident(view, kept);
}

// A policy may be put in place while models are resident.
void AdaptivePolicy::adopt_resident(const PolicyView& view, const Model& model) {
    for (uint32_t index = 0; index < model.extent_count; ++index) {
        ExtentId extent = model.first_extent + index;
        if (view.extents[extent].state != TIERD_EXTENT_RESIDENT) continue;
        lists_.remove(extent);  // an orphan, perhaps
        lists_.weigh(extent, view.extents[extent].bytes);
        file(view, model, extent);
    }
}

void AdaptivePolicy::model_close(const PolicyView& view, uint32_t slot) {
    auto found = models_.find(slot);
    if (found == models_.end()) return;
    ExtentLists::List lists = found->second.lists;
    for (uint32_t kind = 0; kind < kKinds; ++kind)
        while (lists_.size(lists + kind) > 0) lists_.push_back(orphans_, lists_.head(lists + kind));
    lists_.give_block(lists);
    models_.erase(found);
    read_ahead_.model_close(slot);
    predictor_.model_close(slot);
    refresh_shares(view);
}

void AdaptivePolicy::fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) {
    if (!reserve(view, extent)) return;
    Note& note = notes_[extent];
    bool was_ahead = std::exchange(note.ahead, false);
    note.wanted = touch == Touch::missing;
    Model* model = model_of(view, extent);
    if (!model) return;
    asking_ = model->slot;
    model->last_touch_ns = view.now_ns;
    if (model->silent) refresh_shares(view);
    if (++model->clock == 0) model->clock = 1;
    bool too_soon = note.touch_clock != 0 && model->clock - note.touch_clock <= 4 * model->keep;
    if (touch == Touch::missing && too_soon)  // evicted while it was still being read
        model->keep = std::min(model->keep + 1, model->window / 2);
    note.touch_clock = model->clock;
    // Saved by being watched, it would have been a miss.
    bool was_watched = std::exchange(note.watched, false);
    if (touch == Touch::missing || was_ahead || was_watched) count_miss(*model, note);
    if (lists_.list_of(extent) != ExtentLists::kNoList) file(view, *model, extent);
    read_ahead_.touched(view, extent, touch, was_ahead, limits(view, *model), out.read_ahead);
    if (model->mode == Mode::heat) predictor_.touched(view, extent, out.speculative);
    choose_mode(view, *model);
}

void AdaptivePolicy::filled(const PolicyView& view, ExtentId extent) {
    if (!reserve(view, extent)) return;
    Note& note = notes_[extent];
    note.ahead = !std::exchange(note.wanted, false);
    note.watched = false;
    lists_.weigh(extent, view.extents[extent].bytes);
    Model* model = model_of(view, extent);
    if (!model) {
        lists_.push_back(orphans_, extent);
        return;
    }
    note.touch_clock = std::max(model->clock, 1u);
    model->fills++;
    file(view, *model, extent);
    if (model->mode == Mode::heat) sink_levels(*model);
}

void AdaptivePolicy::evicted(const PolicyView& view, ExtentId extent) {
    if (!reserve(view, extent)) return;
    Note& note = notes_[extent];
    if (std::exchange(note.ahead, false)) read_ahead_.wasted(view.extents[extent].model);
    lists_.remove(
        extent);  // `wanted` stays: a thread may have touched it while its memory was being released
}

void AdaptivePolicy::epoch(const PolicyView& view, PolicyDecisions& out) {
    if (view.extents.empty() || !reserve(view, 0)) return;
    ++epochs_;
    for (auto& [slot, model] : models_)
        if (epochs_ % kCutEpochs == 0) model.cut -= (model.cut + 7) / 8;
    refresh_shares(view);
    for (auto& [slot, model] : models_) {
        model.fills_an_epoch =
            kFillsKept * model.fills_an_epoch + (1 - kFillsKept) * std::exchange(model.fills, 0);
        if (model.mode == Mode::heat) watch_coldest(view, model, out.watch);
        if (!model.silent) read_ahead_.go_on(view, slot, limits(view, model), out.read_ahead);
        ExtentLists::List pinned = model.lists + kPinned;
        for (uint32_t looks = std::min(kPinnedLooks, lists_.size(pinned)); looks > 0; --looks) {
            ExtentId extent = lists_.head(pinned);
            bool still = view.extents[extent].flags & TIERD_EXTENT_PINNED;
            still ? lists_.push_back(pinned, extent) : file(view, model, extent);
        }
    }
}

// Divides what is not pinned among the models that were active lately. A share that changed may change the
// mode.
void AdaptivePolicy::refresh_shares(const PolicyView& view) {
    capacity_bytes_ = view.dram.capacity_bytes;
    uint64_t free_bytes = capacity_bytes_;
    std::vector<Model*> active;
    std::vector<uint64_t> wants_bytes;
    for (auto& [slot, model] : models_) {
        model.silent = view.now_ns > model.last_touch_ns && view.now_ns - model.last_touch_ns > kSilentNs;
        free_bytes -= std::min(pinned_bytes(model), free_bytes);
        if (model.silent) continue;
        active.push_back(&model);
        wants_bytes.push_back(model.bytes - pinned_bytes(model));
    }
    std::vector<uint64_t> shares_bytes = fair_shares(wants_bytes, free_bytes);
    for (size_t i = 0; i < active.size(); ++i) {
        Model& model = *active[i];
        uint64_t share_bytes = shares_bytes[i] + pinned_bytes(model);
        if (share_bytes != model.share_bytes) model.cut = 0;
        model.share_bytes = share_bytes;
        resize_hold(model);
        choose_mode(view, model);
        uint32_t drift =
            std::max(model.hold_below, model.filed_below) - std::min(model.hold_below, model.filed_below);
        if (model.mode != Mode::lru && drift > kHoldDrift) refile(view, model);
    }
}

// Sets window and hold from the share: what a sweep needs for streaming is not for holding.
void AdaptivePolicy::resize_hold(Model& model) const {
    uint64_t share_bytes = model.share_bytes - std::min(pinned_bytes(model), model.share_bytes);
    auto share = static_cast<uint32_t>(std::min<uint64_t>(share_bytes / model.extent_bytes, UINT32_MAX));
    auto small_extents =
        static_cast<uint32_t>(std::min<uint64_t>(kWindowMostBytes / model.extent_bytes, UINT32_MAX));
    uint32_t streamed = model.extent_count - std::min(share, model.extent_count);
    uint32_t window = std::min(share / kWindowPart, streamed / kStreamedPart);
    window = std::clamp(window, kWindowLeast, std::max(kWindowMost, small_extents));
    window = std::min(window, std::max(kWindowTiny, share / 4));
    if (window != model.window) {
        model.window = window;
        model.keep = std::clamp(window * 3 / 8, 2u, kKeep);
    }
    model.cut = std::min(model.cut, share / 2);
    double hold = 0;  // part of the extents that may be held
    if (model.mode == Mode::sweep && share > window + model.cut)
        hold = double(share - window - model.cut) / model.extent_count;
    if (model.mode == Mode::heat && model.held_kind_bytes > 0)
        hold = double(share_bytes) * 7 / 8 / double(model.held_kind_bytes);
    model.hold_below = hold >= 1 ? UINT32_MAX : static_cast<uint32_t>(std::ldexp(hold, 32));
}

void AdaptivePolicy::choose_mode(const PolicyView& view, Model& model) {
    Mode mode = model.mode;
    if (fits(model)) {
        mode = Mode::lru;
    } else if (choice_ == Choice::always_sweep) {
        mode = Mode::sweep;
    } else if (model.held_kind_bytes > 0) {
        mode = Mode::heat;  // which experts a token takes is no order
    } else if (mode == Mode::lru || model.clock - model.mode_clock >= kModeTouches) {
        ReadAhead::Score score = read_ahead_.score(model.slot);
        if (score.samples >= kSamplesNeeded && score.in_order_256ths >= kInOrder) mode = Mode::sweep;
        if (score.samples >= kSamplesNeeded && score.in_order_256ths <= kAtRandom) mode = Mode::heat;
    }
    if (mode == model.mode) return;
    model.mode = mode;
    model.mode_clock = model.clock;
    resize_hold(model);
    refile(view, model);
}

// Puts each resident extent of the model into the list where it belongs now, oldest first.
void AdaptivePolicy::refile(const PolicyView& view, Model& model) {
    model.filed_below = model.hold_below;
    for (uint32_t kind = 0; kind < kPinned; ++kind) {
        ExtentLists::List list = model.lists + kind;
        std::vector<ExtentId> extents;
        for (ExtentId extent = lists_.head(list); extent != kNoExtent; extent = lists_.next(extent))
            extents.push_back(extent);
        // What lies in the right list already only moves to its end, so the order within a list stays.
        for (ExtentId extent : extents) file(view, model, extent);
    }
}

bool AdaptivePolicy::is_held(const PolicyView& view, const Model& model, ExtentId extent) {
    if (model.mode == Mode::lru) return false;
    if (model.mode == Mode::heat &&
        (model.held_kind_bytes == 0 || view.extents[extent].role == TIERD_ROLE_EXPERT))
        return false;
    return hold_key(model, extent) < model.hold_below;
}

void AdaptivePolicy::file(const PolicyView& view, const Model& model, ExtentId extent) {
    const Note& note = notes_[extent];
    uint32_t kind = kLevel0;
    if (is_held(view, model, extent)) {
        kind = kHeld;
    } else if (note.ahead) {
        kind = kAhead;
    } else if (model.mode == Mode::heat) {
        kind = kLevel0 + level(note);
    }
    lists_.push_back(model.lists + kind, extent);
}

// 0 or 1 miss: level 0; 2: 1; 3 or 4: 2; 5 to 8: 3; and so on, up to kMissesMost: 6.
uint32_t AdaptivePolicy::level(const Note& note) {
    return note.misses == 0 ? 0 : static_cast<uint32_t>(std::bit_width(note.misses - 1u));
}

// Misses count half after kHalfLifeParts.
void AdaptivePolicy::count_miss(const Model& model, Note& note) const {
    uint64_t half_life = kHalfLifeParts * std::max<uint64_t>(resident_extents(model), kModeTouches);
    uint64_t halvings = std::min<uint64_t>((model.clock - note.miss_clock) / half_life, 8);
    uint32_t misses = (uint32_t{note.misses} >> halvings) + 1;
    note.misses = static_cast<uint8_t>(std::min(misses, kMissesMost));
    note.miss_clock = model.clock;
}

// The longest in each level sinks by one when it stayed for kStayParts without a miss.
void AdaptivePolicy::sink_levels(const Model& model) {
    uint64_t stay = kStayParts * std::max<uint64_t>(resident_extents(model), kModeTouches);
    for (uint32_t kind = kLevel0 + 1; kind < kLevel0 + kLevels; ++kind) {
        ExtentId oldest = lists_.head(model.lists + kind);
        if (oldest == kNoExtent || model.clock - notes_[oldest].touch_clock <= stay) continue;
        notes_[oldest].touch_clock = model.clock;
        lists_.push_back(model.lists + kind - 1, oldest);
    }
}

// What the share still has room for.
uint64_t AdaptivePolicy::free_extents(const Model& model) const {
    uint64_t free_bytes = model.share_bytes - std::min(resident_bytes(model), model.share_bytes);
    return free_bytes / model.extent_bytes;
}

uint32_t AdaptivePolicy::soon_to_go(const Model& model) const {
    double going = kWatchedEpochs * model.fills_an_epoch - double(free_extents(model));
    return static_cast<uint32_t>(std::clamp(going, 0.0, double(resident_extents(model) / kWatchedPart)));
}

void AdaptivePolicy::watch_coldest(const PolicyView& view, const Model& model, std::vector<ExtentId>& watch) {
    uint32_t looks = soon_to_go(model);
    for (uint32_t kind = kLevel0; kind < kHeld; ++kind) {
        for (ExtentId extent = lists_.head(model.lists + kind); extent != kNoExtent;
             extent = lists_.next(extent)) {
            if (looks-- == 0 || watch.size() >= kMaxWatch) return;
            Note& note = notes_[extent];
            if (note.watched || (view.extents[extent].flags & TIERD_EXTENT_MAPPED) == 0) continue;
            note.watched = true;
            watch.push_back(extent);
        }
    }
}

ReadAheadLimits AdaptivePolicy::limits(const PolicyView& view, const Model& model) const {
    auto free = static_cast<uint32_t>(std::min<uint64_t>(free_extents(model), kMaxReadAhead));
    // In the window are also those just touched and, where it is large enough, a few that demand may take at
    // once.
    uint32_t spare = std::min(model.keep + std::min(model.window / 8 + 1, 4u), model.window - 1);
    uint32_t streamed = model.window - spare;
    if (view.dram.used_bytes >= view.dram.capacity_bytes && model.mode == Mode::sweep) free = 0;
    if (model.mode == Mode::heat) return {free, free == kMaxReadAhead, kSiblings};
    uint32_t capacity = std::max(free, streamed);
    return {capacity, true, std::min(capacity, kSiblings)};
}

}  // namespace tierd
