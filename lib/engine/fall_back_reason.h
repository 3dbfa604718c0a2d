// fall_back_reason.h - why ranges and sessions go back to the kernel's mapping on tierd's order, and how often each did.
//
// Callers:   the engine's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tierd {

enum class FallBackReason : uint8_t {
    changed,     // the file is no longer what it was
    unreadable,  // a read failed
    no_memory,   // nothing can be freed for the extent
    deadline,    // a fault waited too long
    stalled,     // tierd itself did not move for longer than clients wait
    no_ack,      // the client does not read its orders
    end,         // tierd ends
};
inline constexpr size_t kFallBackReasons = 7;
inline constexpr const char* kFallBackReasonNames[kFallBackReasons] = {
    "changed", "unreadable", "no_memory", "deadline", "stalled", "no_ack", "end"};

using FallBackCounts = std::array<uint64_t, kFallBackReasons>;

}  // namespace tierd
