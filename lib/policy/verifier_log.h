// verifier_log.h - turns the kernel verifier's log of a program into messages for the author of its C source.
//
// Callers:   any thread; pure.
#pragma once

#include <string>
#include <string_view>

namespace tierd {

struct Complaint {
    std::string where;    // "fifo.bpf.c:17"; empty: the object carries no line information
    std::string message;  // the verifier's own words
    std::string advice;   // what an author usually has to do about it; empty: unknown
};

// The complaint that ends a verifier's log.
Complaint read_complaint(std::string_view log);

}  // namespace tierd
