// rights.h - drops the rights that tierd does not need, before it serves a client.
//
// Owns:      the lists: capabilities that it keeps, those that it needs at the start only, system calls that it never
//            makes. docs/security.md has the reasons.
// Invariant: a dropped right can't be regained, neither by this process nor by a program that it could start.
// Callers:   main(), while there is one thread: rights belong to threads, and those that come later inherit them.
// Fails:     the functions return what the kernel refused; tierd can still serve, with rights that it should not
//            have.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "lib/base/result.h"

namespace tierd {

struct Capability {
    int number;
    std::string_view name;
};

// While tierd serves.
std::span<const Capability> kept_capabilities();
// And these until the file system of the arenas is mounted.
std::span<const Capability> start_capabilities();

// Keeps of the capabilities that this thread has those of kept_capabilities(), with `starting` also those of
// start_capabilities(); none is left that a program could inherit.
Result<void> drop_capabilities(bool starting);

// No program that this process starts gets more rights (no_new_privs), and the system calls that tierd never makes
// are refused with EPERM: to start programs, to look into other processes, to load modules or kernels, to change
// mounts, clocks or namespaces.
Result<void> refuse_foreign_calls();

}  // namespace tierd
