// events.h - what Placement returns to its owner: things that happened to extents and that sessions must learn.
//
// Invariant: an event is a fact at the moment it was made. The owner handles each before it calls Placement again.
// Callers:   values.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

// Why an extent can't be served from memory.
enum class FailReason : uint8_t {
    changed,     // the file is no longer what it was
    unreadable,  // the read failed
    no_memory,   // nothing can be freed for it
};

struct PlacementEvent {
    enum class Kind : uint8_t {
        filled,    // the bytes are there and right: whoever waits may be answered
        failed,    // whoever waits has to read the file by itself
        released,  // the memory is returned; its file may be closed if nobody uses it
    } kind;
    ExtentId extent = kNoExtent;
    FailReason reason = FailReason::changed;  // of failed
    uint64_t started_ns = 0, read_ns = 0;     // of filled: the read began, its bytes were there
    bool map_ahead = false;                   // of filled: to be mapped although nobody may wait
    bool foreseen = false;                    // of filled: it counts as touched
};

using PlacementEvents = std::vector<PlacementEvent>;

}  // namespace tierd
