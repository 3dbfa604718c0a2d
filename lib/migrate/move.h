// move.h - the move of one extent from node to node: tried until it is done or refused, then verified.
//
// Owns:      nothing; values, and the function that moves.
// Invariant: `moved` means that the kernel reports every page on the target node. Any other move is undone as far as
//            the kernel allows, and returned with its reason.
// Callers:   migrate_pages() on any thread that may take milliseconds; the memory must stay mapped until it returns.
// Fails:     by MoveResult::outcome; never throws.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/migrate/node_memory.h"

namespace tierd {

struct MoveRequest {
    uint64_t tag = 0;  // the caller's own
    PageRange range = {};
    std::vector<int> to =
        {};  // any of these will do; the first is preferred. Empty: a tier without nodes of its own
    std::vector<int> from = {};       // where the pages go back to when not all of them could be moved
    uint64_t modelled_ns = 0;         // without nodes: how long it is to take
    uint32_t priority = 0;            // greater goes first; of equals in the order of asking
    std::shared_ptr<void> keep = {};  // holds the memory
};

enum class MoveOutcome : uint8_t {
    moved,
    refused,    // nothing changed; `error` has the reason
    split,      // some pages are elsewhere and could not be brought back
    cancelled,  // nothing changed
};

struct MoveResult {
    uint64_t tag = 0;
    MoveOutcome outcome = MoveOutcome::refused;
    uint64_t bytes = 0;        // of the range
    uint64_t moved_bytes = 0;  // that changed their node; 0 when all were there already
    int error = 0;             // the errno that most of the pages that stayed were refused with
    uint32_t attempts = 0;
    uint64_t took_ns = 0;
};

// "its node has no free memory" for an errno of a refused move.
std::string move_error_text(int error);

inline constexpr uint32_t kMoveAttempts = 5;

// Carries out moves together, since every call drains the caches of all processors first. A move whose flag in
// `cancelled` is set is given up between attempts. Results are in the order of requests.
std::vector<MoveResult> migrate_pages(std::span<const MoveRequest> requests,
                                      std::span<const std::shared_ptr<std::atomic<bool>>> cancelled);

}  // namespace tierd
