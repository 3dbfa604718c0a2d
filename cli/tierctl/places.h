// places.h - where the files of tierd's own lie: beside the programs, as installed or as built.
//
// Callers:   any thread.
// Fails:     never; where nothing is found it names the usual place, whose absence is reported by who opens it.
#pragma once

#include <string>

namespace tierd {

std::string policy_folder();   // NAME.bpf.o of the policies that ship
std::string include_folder();  // tierd.bpf.h

}  // namespace tierd
