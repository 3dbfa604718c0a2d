// core_moves.cc - the engine's thread, from a proposed move to an extent in another memory tier; and what is believed of
// places, checked.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr size_t kMovesInFlight = 64;      // waiting or under way; what is proposed beyond is forgotten
constexpr uint32_t kPlacementRows = 4096;  // looked at in an epoch
constexpr size_t kNearerMoves =
    8;  // when so many moves are under way, none are added that only bring extents nearer
constexpr uint32_t kNearerPriority = 1;
// Pages that the kernel is asked for in an epoch, some 100 µs; and while there are news of memory, when it pays.
constexpr size_t kPlacementPages = 512;
constexpr size_t kNewsPlacementPages = 8192;
constexpr uint64_t kUnknownBandwidth = 4 * kGiB;  // of a declared tier that has no figure

uint64_t bandwidth_of(const Tier& tier) {
    return tier.spec.bandwidth_bytes_per_s > 0 ? tier.spec.bandwidth_bytes_per_s : kUnknownBandwidth;
}

}  // namespace

// Made when there is first something to move: a machine with one tier has no such thread.
Migrator& Core::migrator() {
    if (!migrator_)
        migrator_ = std::make_unique<Migrator>(
            [mailbox = mailbox_](const MoveResult& result) {
                mailbox->post([result](Core& core) { core.on_moved(result); });
            },
            migrate_bytes_per_s_);
    return *migrator_;
}

// Moves go slower where they make readers wait.
void Core::reader_waited(WaitKind kind, uint64_t begun_ns) {
    if (migrator_) migrator_->reader_waited(kind, begun_ns);
}

// Where fresh pages in the tier are to come from; -1: from wherever the kernel takes them by itself.
int Core::preferred_node(uint8_t number) {
    const Tier* tier = tiers_.find(number);
    bool by_kernel = tier == nullptr || tier->number == system_tier_ || tier->spec.nodes.empty();
    return by_kernel ? -1 : tier->spec.nodes.front();
}

PageRange Core::pages_of(ExtentId id) {
    WeightFile& file = file_of(id);
    return {file.arena.at(file.offset_of(id)), file.memory_of(id), file.arena.page_bytes()};
}

// Of an exchange, what goes down stands directly before what comes up for it.
bool Core::is_exchange(const ProposedMove& down, const ProposedMove& up) {
    return owner_of(down.extent) != nullptr && owner_of(up.extent) != nullptr &&
           up.tier == table_[down.extent].tier && down.tier == table_[up.extent].tier && up.tier != down.tier;
}

// Carries out what the policy proposed, where it may be. The second half of an exchange waits until the first has made
// room.
void Core::propose_moves() {
    const auto& moves = decisions_.moves;
    for (size_t i = 0; i < moves.size(); i++) {
        bool pair = i + 1 < moves.size() && is_exchange(moves[i], moves[i + 1]);
        Refusal refusal = moves_.size() >= kMovesInFlight
                              ? Refusal::too_many
                              : start_move(moves[i].extent, pair ? moves[i].tier : near_its_reader(moves[i]),
                                           moves[i].priority, pair);
        count_decision(Proposal::move, refusal);
        if (!pair) continue;
        count_decision(Proposal::move, refusal);
        if (refusal == Refusal::none) deferred_moves_.push_back(moves[i + 1]);
        i++;
    }
}

// A policy chooses among speeds; of equally fast tiers the nearest to whoever reads the extent is meant, where it has room.
uint8_t Core::near_its_reader(const ProposedMove& move) const {
    uint8_t near = tiers_.nearest_like(move.tier, heat_.reader_node(move.extent));
    const Tier* tier = tiers_.find(near);
    bool has_room = tier != nullptr && tiers_.room_in(*tier) >= config_.extent_bytes;
    return has_room ? near : move.tier;
}

// Every epoch: what is read from one node most goes to the tier near it, where another one is as fast.
void Core::bring_near() {
    if (!tiers_.has_equals()) return;
    const uint32_t rows = table_.size();
    for (uint32_t looked = 0; looked < std::min(rows, kPlacementRows); looked++) {
        if (moves_.size() >= kNearerMoves) return;
        if (next_nearer_ >= rows) next_nearer_ = 0;
        ExtentId id = next_nearer_++;
        if (table_[id].state != TIERD_EXTENT_RESIDENT) continue;
        uint8_t near = tiers_.nearest_like(table_[id].tier, heat_.reader_node(id));
        if (near != table_[id].tier) (void)start_move(id, near, kNearerPriority);
    }
}

Refusal Core::start_move(ExtentId id, uint8_t to, uint32_t priority, bool for_exchange) {
    WeightFile* file = owner_of(id);
    if (file == nullptr) return Refusal::unknown_extent;
    if (file->changed) return Refusal::changed;
    Tier* target = tiers_.find(to);
    if (target == nullptr || target->closed) return Refusal::no_such_tier;
    const tierd_extent& row = table_[id];
    if (row.state != TIERD_EXTENT_RESIDENT) return Refusal::not_resident;
    if (moves_.contains(id)) return Refusal::on_its_way;
    if (row.tier == to) return Refusal::same_tier;
    if (!tiers_.grant_in(to, file->memory_of(id), for_exchange)) return Refusal::tier_full;
    const Tier& source = *tiers_.find(row.tier);
    uint64_t bandwidth = std::min(bandwidth_of(source), bandwidth_of(*target));
    // A declared tier's memory is the system's own: out of another node it goes there, and back there when a move fails.
    const auto& ordinary = tiers_.find(system_tier_)->spec.nodes;
    bool leaves_node = !source.spec.nodes.empty() && source.number != system_tier_;
    const auto& to_nodes = target->spec.nodes.empty() && leaves_node ? ordinary : target->spec.nodes;
    moves_[id] = {.from = row.tier, .to = to};
    migrator().move({.tag = id,
                     .range = pages_of(id),
                     .to = to_nodes,
                     .from = source.spec.nodes.empty() ? ordinary : source.spec.nodes,
                     .modelled_ns = file->memory_of(id) * kNsPerSecond / bandwidth,
                     .priority = priority,
                     .keep = slots_[file->slot]});
    return Refusal::none;
}

void Core::on_moved(const MoveResult& result) {
    auto id = static_cast<ExtentId>(result.tag);
    Move move = moves_.extract(id).mapped();
    WeightFile& file = file_of(id);
    bool arrived = result.outcome == MoveOutcome::moved;
    bool scattered = result.outcome == MoveOutcome::scattered;
    // What is here and there takes memory in both until it is released.
    if (scattered)
        scattered_[id] = move.to;
    else
        tiers_.give_back(arrived ? move.from : move.to, file.memory_of(id));
    if (arrived && move.from != move.to) {
        table_[id].tier = move.to;
        counters_.moves++;
        counters_.bytes_moved += file.memory_of(id);
    } else if (!arrived && result.outcome != MoveOutcome::cancelled) {
        counters_.moves_refused++;
        spdlog::debug("extent {} of {} stays in its tier: {}", id - file.first_extent, file.path,
                      move_error_text(result.error));
        // Pages that are here and there, or lost, are read again.
        move.not_whole |= scattered || result.error == ENOENT;
    }
    if (move.then_evict || move.not_whole || file.changed) start_eviction(id, move.not_whole);
    for (size_t left = deferred_moves_.size(); left > 0; left--) {
        ProposedMove waiting = deferred_moves_.front();
        deferred_moves_.pop_front();
        bool can =
            owner_of(waiting.extent) != nullptr && table_[waiting.extent].state == TIERD_EXTENT_RESIDENT;
        if (!can) continue;
        bool full = start_move(waiting.extent, waiting.tier, waiting.priority) == Refusal::tier_full;
        if (full && !moves_.empty()) deferred_moves_.push_back(waiting);
    }
}

// Others may move our pages: the kernel when memory goes offline or is short, an administrator. So where an extent is
// believed to be is looked up from time to time, all of them in turn; soon, when there were news of memory.
void Core::check_placements() {
    const uint32_t rows = table_.size();
    const size_t may_ask = suspect_rows_ > 0 ? kNewsPlacementPages : kPlacementPages;
    size_t asked = 0;
    uint32_t looked = 0;
    for (; looked < std::min(rows, kPlacementRows) && asked < may_ask; looked++) {
        if (next_placement_ >= rows) next_placement_ = 0;
        ExtentId id = next_placement_++;
        if (table_[id].state != TIERD_EXTENT_RESIDENT || moves_.contains(id)) continue;
        asked += check_placement(id);
    }
    suspect_rows_ -= std::min(suspect_rows_, looked);
}

// Every row is looked at soon. Twice, since some may be on their way while it happens.
void Core::suspect_placements() {
    suspect_rows_ = 2 * table_.size();
}

// All its pages, since memory goes offline by blocks, whose edges lie anywhere in an extent. Found in another tier as a whole
// it counts there, where there is room for it; else it goes. Torn apart it is brought together. Returns how many pages were
// asked for.
size_t Core::check_placement(ExtentId id) {
    const Tier* believed = tiers_.find(table_[id].tier);
    if (believed == nullptr || believed->spec.nodes.empty() || owner_of(id) == nullptr) return 0;
    PageRange pages = pages_of(id);
    if (auto mapped = map_pages(pages); !mapped) {
        if (mapped.error().err == ENOENT) start_eviction(id, true);  // lost; the next touch reads it again
        return pages.pages();
    }
    auto placed = find_pages(pages);
    if (!placed || placed->bytes_off(believed->spec.nodes) == 0) return pages.pages();
    counters_.placements_corrected++;
    Tier* real = tiers_.find_by_node(placed->bytes_on.begin()->first);
    bool whole = real != nullptr && placed->bytes_off(real->spec.nodes) == 0;
    if (whole && tiers_.grant_in(real->number, pages.length_bytes)) {
        tiers_.give_back(believed->number, pages.length_bytes);
        table_[id].tier = real->number;
    } else if (whole || !gather(id)) {
        start_eviction(id);
    }
    return pages.pages();
}

// Brings the pages of an extent together in its own tier. False: there is no room for that.
bool Core::gather(ExtentId id) {
    const Tier& home = *tiers_.find(table_[id].tier);
    if (!tiers_.grant_in(home.number, file_of(id).memory_of(id), true)) return false;
    moves_[id] = {.from = home.number, .to = home.number};
    migrator().move({.tag = id,
                     .range = pages_of(id),
                     .to = home.spec.nodes,
                     .from = home.spec.nodes,
                     .keep = slots_[file_of(id).slot]});
    return true;
}

}  // namespace tierd
