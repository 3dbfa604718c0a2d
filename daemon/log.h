// log.h - tierd's log, on standard error: the journal collects it, or a person reads it in the foreground.
//
// Invariant: a message is one line of printable text, whatever names of files and processes it holds: a client chooses
//            them, and must not add lines or control a terminal.
// Callers:   set_up_log() once, before any thread exists; printable() from any thread.
#pragma once

#include <string>
#include <string_view>

namespace tierd {

void set_up_log(const std::string& level);

// Control characters and bytes that are no UTF-8 as \x1b, a line feed as \n.
std::string printable(std::string_view text);

}  // namespace tierd
