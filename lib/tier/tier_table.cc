#include "lib/tier/tier_table.h"

#include <algorithm>

#include "lib/base/bytes.h"

namespace tierd {

uint8_t TierTable::add(TierSpec spec) {
    for (uint8_t number = 1; number <= kMaxTiers; number++) {
        if (tiers_[number] != nullptr) continue;
        tiers_[number] = std::make_unique<Tier>(number, std::move(spec));
        rank();
        return number;
    }
    return kNoTier;
}

void TierTable::remove(uint8_t number) {
    tiers_[number].reset();
    rank();
}

void TierTable::rank() {
    by_speed_.clear();
    for (auto& tier : tiers_)
        if (tier != nullptr) by_speed_.push_back(tier.get());
    std::ranges::stable_sort(by_speed_,
                             [](Tier* one, Tier* other) { return is_faster(one->spec, other->spec); });
    for (size_t i = 0; i < by_speed_.size(); i++) by_speed_[i]->rank = static_cast<uint8_t>(i);
}

void TierTable::resize(uint8_t number, uint64_t capacity_bytes) {
    Tier& tier = *tiers_[number];
    tier.spec.capacity_bytes = capacity_bytes;
    tier.account.resize(capacity_bytes);
    peak_bytes_ = used_bytes();
}

void TierTable::close(uint8_t number, bool closed) {
    tiers_[number]->closed = closed;
}

Tier* TierTable::find(std::string_view name) {
    auto found = std::ranges::find_if(by_speed_, [&](Tier* tier) { return tier->spec.name == name; });
    return found == by_speed_.end() ? nullptr : *found;
}

Tier* TierTable::find_by_node(int node) {
    for (Tier* tier : by_speed_)
        if (std::ranges::find(tier->spec.nodes, node) != tier->spec.nodes.end()) return tier;
    return nullptr;
}

size_t TierTable::open_count() const {
    return static_cast<size_t>(std::ranges::count_if(by_speed_, [](Tier* tier) { return !tier->closed; }));
}

static bool equally_fast(const TierSpec& one, const TierSpec& other) {
    return !is_faster(one, other) && !is_faster(other, one);
}

uint8_t TierTable::grant(uint64_t bytes, int reader_node) {
    for (Tier* tier : by_speed_) {
        uint8_t near = nearest_like(tier->number, reader_node);
        if (near != tier->number && grant_in(near, bytes)) return near;
        if (grant_in(tier->number, bytes)) return tier->number;
    }
    return kNoTier;
}

uint8_t TierTable::nearest_like(uint8_t number, int reader_node) const {
    const Tier* best = find(number);
    if (best == nullptr || reader_node < 0) return number;
    for (const Tier* other : by_speed_) {
        if (other->closed || !equally_fast(other->spec, best->spec)) continue;
        if (distance_from(other->spec, reader_node) < distance_from(best->spec, reader_node)) best = other;
    }
    return best->number;
}

bool TierTable::has_equals() const {
    for (size_t i = 1; i < by_speed_.size(); i++)
        if (equally_fast(by_speed_[i - 1]->spec, by_speed_[i]->spec)) return true;
    return false;
}

bool TierTable::grant_in(uint8_t number, uint64_t bytes, bool for_exchange) {
    Tier* tier = find(number);
    if (tier == nullptr || tier->closed) return false;
    uint64_t kept = for_exchange ? 0 : kept_bytes();
    if (tier->account.free_bytes() < bytes + kept || !tier->account.grant(bytes)) return false;
    peak_bytes_ = std::max(peak_bytes_, used_bytes());
    return true;
}

void TierTable::give_back(uint8_t number, uint64_t bytes) {
    tiers_[number]->account.give_back(bytes);
}

uint64_t TierTable::room_in(const Tier& tier) const {
    if (tier.closed) return 0;
    uint64_t free = tier.account.free_bytes();
    if (count() == 1) return free;
    return round_down(free - std::min(free, kept_bytes()), extent_bytes_);
}

uint64_t TierTable::free_bytes() const {
    uint64_t bytes = 0;
    for (Tier* tier : by_speed_) bytes += room_in(*tier);
    return bytes;
}

uint64_t TierTable::capacity_bytes() const {
    uint64_t bytes = 0;
    for (Tier* tier : by_speed_)
        if (!tier->closed) bytes += tier->capacity_bytes();
    return bytes;
}

uint64_t TierTable::usable_bytes() const {
    uint64_t bytes = 0;
    for (Tier* tier : by_speed_)
        if (!tier->closed) bytes += tier->capacity_bytes() - std::min(tier->capacity_bytes(), kept_bytes());
    return bytes;
}

uint64_t TierTable::used_bytes() const {
    uint64_t bytes = 0;
    for (Tier* tier : by_speed_) bytes += tier->used_bytes();
    return bytes;
}

int TierTable::preferred_node(uint8_t number) const {
    const Tier* tier = find(number);
    bool by_kernel = tier == nullptr || number == system_ || tier->spec.nodes.empty();
    return by_kernel ? -1 : tier->spec.nodes.front();
}

}  // namespace tierd
