// decisions.h - what became of a policy's proposals: by kind where they were taken, by reason where not.
//
// Owns:      the counts. Adding a reason is adding a row.
// Callers:   the engine's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tierd {

enum class Refusal : uint8_t {
    none,
    unknown_extent,  // no row, or one of no file
    not_absent,      // a read-ahead of what is in memory, or on its way
    not_resident,    // an eviction or a move of what is not in memory
    pinned,          // an administrator holds it
    no_such_tier,    // there is none of that number, or it is being emptied
    same_tier,       // it is there already
    tier_full,
    not_mapped,  // a watch of what is not mapped, or only by huge pages
    too_many,    // of this kind in an epoch
    changed,     // the file did
    on_its_way,  // to another tier
};
inline constexpr std::array<const char*, 12> kRefusalNames{
    "none",      "unknown extent", "not absent", "not resident", "pinned",       "no such tier",
    "same tier", "tier full",      "not mapped", "too many",     "file changed", "on its way"};

enum class Proposal : uint8_t { read_ahead, evict, move, watch };
inline constexpr std::array<const char*, 4> kProposalNames{"read ahead", "evict", "move", "watch"};

struct DecisionCounts {
    std::array<uint64_t, kProposalNames.size()> accepted{};
    std::array<uint64_t, kRefusalNames.size()> refused{};

    void count(Proposal proposal, Refusal refusal) {
        if (refusal == Refusal::none)
            accepted[static_cast<size_t>(proposal)]++;
        else
            refused[static_cast<size_t>(refusal)]++;
    }
};

}  // namespace tierd
