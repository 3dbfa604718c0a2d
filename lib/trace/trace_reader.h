// trace_reader.h - from the bytes of a trace file to a trace.
//
// Owns:      nothing between calls.
// Invariant: what it returns holds the invariant of trace.h; memory is at most a small multiple of the bytes read.
// Callers:   any thread.
// Fails:     bad_input, naming the byte, for anything that is no trace; a file that stops within an event (its writer
//            was killed) is read up to there, `ended` false.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/trace/trace.h"

namespace tierd {

inline constexpr std::string_view kTraceMagic = "TIERDTRC";
inline constexpr uint32_t kTraceVersion = 2;  // 1, without mapped and armed, is read too

Result<Trace> parse_trace(std::span<const char> bytes);
// Errors also: io, not_found.
Result<Trace> read_trace(const std::string& path);

}  // namespace tierd
