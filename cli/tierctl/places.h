// places.h - finds tierd's own files: beside the programs, as installed or as built.
//
// Callers:   any thread.
// Fails:     never; if nothing is found it returns the usual path; opening that fails.
#pragma once

#include <string>

namespace tierd {

std::string policy_folder();   // NAME.bpf.o of the policies that ship
std::string include_folder();  // tierd.bpf.h

}  // namespace tierd
