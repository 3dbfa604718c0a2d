#include "lib/placement/mover.h"

#include <algorithm>
#include <cerrno>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/invariant.h"

namespace tierd {

namespace {

constexpr size_t kMovesInFlight = 64;  // waiting or under way; a proposal beyond is refused
constexpr uint32_t kRowsAnEpoch = 4096;
constexpr size_t kNearerMoves = 8;  // with so many under way, none are added that only bring extents nearer
constexpr uint32_t kNearerPriority = 1;
constexpr uint64_t kUnknownBandwidth = 4 * kGiB;  // of a declared tier that has no figure

uint64_t bandwidth_of(const Tier& tier) {
    return tier.spec.bandwidth_bytes_per_s > 0 ? tier.spec.bandwidth_bytes_per_s : kUnknownBandwidth;
}

}  // namespace

Mover::Mover(Extents& extents, TierTable& tiers, Backend& backend, EngineCounters& counters,
             uint64_t extent_bytes)
    : extents_(extents), tiers_(tiers), backend_(backend), counters_(counters), extent_bytes_(extent_bytes) {}

// In an exchange, what goes down comes directly before what comes up for it.
bool Mover::is_exchange(const ProposedMove& down, const ProposedMove& up) {
    return extents_.find(down.extent) != nullptr && extents_.find(up.extent) != nullptr &&
           up.tier == extents_[down.extent].tier && down.tier == extents_[up.extent].tier &&
           up.tier != down.tier;
}

// The second half of an exchange waits until the first has freed its space.
std::span<const Refusal> Mover::propose(std::span<const ProposedMove> moves) {
    results_.clear();
    for (size_t i = 0; i < moves.size(); i++) {
        bool pair = i + 1 < moves.size() && is_exchange(moves[i], moves[i + 1]);
        Refusal refusal = Refusal::too_many;
        if (moves_.size() < kMovesInFlight)
            refusal = start(moves[i].extent, pair ? moves[i].tier : near_its_reader(moves[i]),
                            moves[i].priority, pair);
        results_.push_back(refusal);
        if (!pair) continue;
        results_.push_back(refusal);
        if (refusal == Refusal::none) deferred_.push_back(moves[i + 1]);
        i++;
    }
    return results_;
}

// A policy chooses among speeds. Of equally fast tiers the one nearest to the extent's readers is meant, where it has space.
uint8_t Mover::near_its_reader(const ProposedMove& move) {
    uint8_t near = tiers_.nearest_like(move.tier, extents_.heat().reader_node(move.extent));
    const Tier* tier = tiers_.find(near);
    bool has_space = tier != nullptr && tiers_.room_in(*tier) >= extent_bytes_;
    return has_space ? near : move.tier;
}

void Mover::bring_near() {
    if (!tiers_.has_equals()) return;
    const uint32_t rows = extents_.size();
    for (uint32_t looked = 0; looked < std::min(rows, kRowsAnEpoch); looked++) {
        if (moves_.size() >= kNearerMoves) return;
        if (next_nearer_ >= rows) next_nearer_ = 0;
        ExtentId id = next_nearer_++;
        if (!extents_.is(id, TIERD_EXTENT_RESIDENT)) continue;
        uint8_t near = tiers_.nearest_like(extents_[id].tier, extents_.heat().reader_node(id));
        if (near != extents_[id].tier) (void)start(id, near, kNearerPriority);
    }
}

Refusal Mover::start(ExtentId id, uint8_t to, uint32_t priority, bool for_exchange) {
    PlacedFile* file = extents_.find(id);
    if (file == nullptr) return Refusal::unknown_extent;
    if (file->changed) return Refusal::changed;
    Tier* target = tiers_.find(to);
    if (target == nullptr || target->closed) return Refusal::no_such_tier;
    const tierd_extent& row = extents_[id];
    if (row.state != TIERD_EXTENT_RESIDENT) return Refusal::not_resident;
    if (moves_.contains(id)) return Refusal::on_its_way;
    if (row.tier == to) return Refusal::same_tier;
    if (!tiers_.grant_in(to, row.bytes, for_exchange)) return Refusal::tier_full;
    const Tier& source = *tiers_.find(row.tier);
    uint64_t bandwidth = std::min(bandwidth_of(source), bandwidth_of(*target));
    // A declared tier's memory is the system's own: out of another node it goes there, and back there when a move fails.
    const auto& ordinary = tiers_.find(tiers_.system())->spec.nodes;
    bool leaves_node = !source.spec.nodes.empty() && source.number != tiers_.system();
    moves_[id] = {.from = row.tier, .to = to};
    backend_.move(*file, {.extent = id,
                          .to = target->spec.nodes.empty() && leaves_node ? ordinary : target->spec.nodes,
                          .from = source.spec.nodes.empty() ? ordinary : source.spec.nodes,
                          .modelled_ns = row.bytes * kNsPerSecond / bandwidth,
                          .priority = priority});
    return Refusal::none;
}

bool Mover::consolidate(ExtentId id) {
    const Tier& home = *tiers_.find(extents_[id].tier);
    if (!tiers_.grant_in(home.number, extents_[id].bytes, true)) return false;
    moves_[id] = {.from = home.number, .to = home.number};
    backend_.move(extents_.file_of(id), {.extent = id, .to = home.spec.nodes, .from = home.spec.nodes});
    return true;
}

Mover::Ended Mover::finish(const MoveEnd& end) {
    const ExtentId id = end.extent;
    auto found = moves_.extract(id);
    invariant(!found.empty(), "a move ends once");
    Move move = found.mapped();
    const PlacedFile& file = extents_.file_of(id);
    const uint32_t bytes = extents_[id].bytes;
    bool arrived = end.outcome == MoveEnd::Outcome::moved;
    bool split = end.outcome == MoveEnd::Outcome::split;
    // What is here and there takes memory in both until it is released.
    if (split)
        split_[id] = move.to;
    else
        tiers_.give_back(arrived ? move.from : move.to, bytes);
    if (arrived && move.from != move.to) {
        extents_[id].tier = move.to;
        counters_.moves++;
        counters_.bytes_moved += bytes;
    } else if (!arrived && end.outcome != MoveEnd::Outcome::cancelled) {
        counters_.moves_refused++;
        // Pages that are here and there, or lost, are read again.
        move.not_whole |= split || end.error == ENOENT;
    }
    return {.evict = move.then_evict || move.not_whole || file.changed, .not_whole = move.not_whole};
}

void Mover::retry_deferred() {
    for (size_t left = deferred_.size(); left > 0; left--) {
        ProposedMove waiting = deferred_.front();
        deferred_.pop_front();
        bool can =
            extents_.find(waiting.extent) != nullptr && extents_.is(waiting.extent, TIERD_EXTENT_RESIDENT);
        if (!can) continue;
        bool full = start(waiting.extent, waiting.tier, waiting.priority) == Refusal::tier_full;
        if (full && !moves_.empty()) deferred_.push_back(waiting);
    }
}

void Mover::drop_stale() {
    if (moves_.empty()) deferred_.clear();
}

bool Mover::evict_afterwards(ExtentId id, bool not_whole) {
    auto move = moves_.find(id);
    if (move == moves_.end()) return false;
    move->second.then_evict = true;
    move->second.not_whole |= not_whole;
    backend_.cancel_move(id);
    return true;
}

std::optional<uint8_t> Mover::take_split(ExtentId id) {
    auto found = split_.extract(id);
    return found.empty() ? std::nullopt : std::optional(found.mapped());
}

uint64_t Mover::leaving_bytes(uint8_t tier) {
    uint64_t bytes = 0;
    for (auto& [id, move] : moves_)
        if (move.from == tier) bytes += extents_[id].bytes;
    return bytes;
}

void Mover::cancel_from(uint8_t tier) {
    for (auto& [id, move] : moves_)
        if (move.from == tier) backend_.cancel_move(id);
}

}  // namespace tierd
