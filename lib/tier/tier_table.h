// tier_table.h - the memory tiers in use, by number, and the account of each.
//
// Owns:      the accounts and the order of speed. Not the memory, not which extent is where.
// Invariant: numbers are 1 to kMaxTiers and stay with a tier until it is removed. In each tier used <= capacity,
//            except after its capacity was lowered, until evictions have caught up. With several tiers each reserves
//            one extent for exchanges: a hot and a cold extent can always change places, however full both tiers are.
// Callers:   the engine's thread only.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "lib/tier/memory_tier.h"
#include "lib/tier/tier_spec.h"

namespace tierd {

inline constexpr uint8_t kMaxTiers = 15;
inline constexpr uint8_t kNoTier = 0;

struct Tier {
    Tier(uint8_t tier_number, TierSpec tier_spec)
        : number(tier_number), spec(std::move(tier_spec)), account(spec.capacity_bytes) {}

    uint8_t number;
    TierSpec spec;
    MemoryTier account;
    bool closed = false;  // being emptied, or empty and to stay so: nothing may be placed in it
    uint8_t rank = 0;     // 0 is the fastest

    uint64_t used_bytes() const { return account.used_bytes(); }
    uint64_t capacity_bytes() const { return account.capacity_bytes(); }
};

class TierTable {
  public:
    // `extent_bytes`: the largest extent.
    explicit TierTable(uint64_t extent_bytes) : extent_bytes_(extent_bytes) {}

    // Its number, or kNoTier when there are kMaxTiers.
    uint8_t add(TierSpec spec);
    void remove(uint8_t number);  // an empty one
    void resize(uint8_t number, uint64_t capacity_bytes);
    void close(uint8_t number, bool closed);

    // The tier of the machine's own memory, whose capacity is the budget.
    void set_system(uint8_t number) { system_ = number; }
    uint8_t system() const { return system_; }
    // Where fresh pages in the tier are to come from; -1: from wherever the kernel takes them by itself.
    int preferred_node(uint8_t number) const;

    Tier* find(uint8_t number) { return number <= kMaxTiers ? tiers_[number].get() : nullptr; }
    const Tier* find(uint8_t number) const { return number <= kMaxTiers ? tiers_[number].get() : nullptr; }
    Tier* find(std::string_view name);
    Tier* find_by_node(int node);
    const std::vector<Tier*>& by_speed() const { return by_speed_; }  // the fastest first
    size_t count() const { return by_speed_.size(); }
    size_t open_count() const;

    // A tier with room for `bytes`, the fastest first, accounted there; kNoTier and nothing changed when none has. Of
    // equally fast ones, the nearest to `reader_node` first, where that is known.
    uint8_t grant(uint64_t bytes, int reader_node = -1);
    // Of the open tiers that are as fast as this one, the one nearest to the processors of a node: this one, where no
    // other is known to be nearer.
    uint8_t nearest_like(uint8_t number, int reader_node) const;
    bool has_equals() const;  // some two tiers are equally fast
    // In that tier. `for_exchange`: the room kept for exchanges may be used too.
    bool grant_in(uint8_t number, uint64_t bytes, bool for_exchange = false);
    void give_back(uint8_t number, uint64_t bytes);

    // Room for extents in one tier, or in all that are open: whole extents where there are several, so that as much can
    // really be granted.
    uint64_t room_in(const Tier& tier) const;
    uint64_t free_bytes() const;
    uint64_t capacity_bytes() const;  // of those that are open
    uint64_t usable_bytes() const;    // of it, without what is kept for exchanges
    uint64_t used_bytes() const;      // of all
    uint64_t peak_bytes() const { return count() == 1 ? by_speed_[0]->account.peak_bytes() : peak_bytes_; }

  private:
    uint64_t kept_bytes() const { return count() > 1 ? extent_bytes_ : 0; }
    void rank();

    const uint64_t extent_bytes_;
    std::array<std::unique_ptr<Tier>, kMaxTiers + 1> tiers_;  // by number; [0] is none
    std::vector<Tier*> by_speed_;
    uint64_t peak_bytes_ = 0;
    uint8_t system_ = kNoTier;
};

}  // namespace tierd
