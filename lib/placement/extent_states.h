// extent_states.h - the life of an extent: which state may follow which.
//
// Owns:      the transition table. Extents::set_state() is the only writer of states, and refuses what the table forbids.
// Callers:   any thread; constants.
#pragma once

#include "bpf/tierd_policy.h"

namespace tierd {

// Row: from, column: to; both in the order of tierd_extent_state.
// clang-format off
inline constexpr bool kMayFollow[NR_TIERD_EXTENT_STATES][NR_TIERD_EXTENT_STATES] = {
    //               absent  queued  filling resident evicting
    /* absent   */ { false,  true,   true,   false,   false },
    /* queued   */ { true,   false,  true,   false,   false },
    /* filling  */ { false,  false,  false,  true,    true  },  // evicting: the read failed, its memory goes back
    /* resident */ { false,  false,  false,  false,   true  },
    /* evicting */ { true,   false,  false,  false,   false },
};
// clang-format on
static_assert(!kMayFollow[TIERD_EXTENT_ABSENT][TIERD_EXTENT_RESIDENT], "bytes appear only through a fill");
static_assert(!kMayFollow[TIERD_EXTENT_FILLING][TIERD_EXTENT_ABSENT],
              "granted memory goes back through an eviction");

// On its way from one of the lasting states to the other.
inline constexpr bool is_busy(uint8_t state) {
    return state == TIERD_EXTENT_QUEUED || state == TIERD_EXTENT_FILLING || state == TIERD_EXTENT_EVICTING;
}

}  // namespace tierd
