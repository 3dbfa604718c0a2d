// hooks.h - the hooks that a policy may implement, and the time budget of each. Adding a hook is adding a row.
//
// Owns:      the table; no state.
// Callers:   any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tierd {

enum class Hook : uint8_t { init, exit, model_open, model_close, fault, epoch, admit, tier_change, contend };
inline constexpr size_t kHooks = 9;

struct HookSpec {
    std::string_view section;  // of the program in the object
    uint64_t budget_ns;        // of processor time for one call
    bool may_propose;          // false: decisions in its answer are refused
};

// Sweeping a million extents takes about 10 ms: what sweeps may take some of that, what is called for each touch
// may not.
// clang-format off
inline constexpr std::array<HookSpec, kHooks> kHookSpecs{{
    {"tierd/init",        100'000'000, true},
    {"tierd/exit",        100'000'000, false},
    {"tierd/model_open",   50'000'000, true},
    {"tierd/model_close",  50'000'000, true},
    {"tierd/fault",         1'000'000, true},
    {"tierd/epoch",        50'000'000, true},
    {"tierd/admit",         1'000'000, false},
    {"tierd/tier_change",  50'000'000, true},
    {"tierd/contend",      50'000'000, false},
}};
// clang-format on

constexpr const HookSpec& spec(Hook hook) {
    return kHookSpecs[static_cast<size_t>(hook)];
}
// "fault": the section without its folder.
constexpr std::string_view hook_name(Hook hook) {
    return spec(hook).section.substr(6);
}

}  // namespace tierd
