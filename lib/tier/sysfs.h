// sysfs.h - reads the small text files in which the kernel describes the machine.
//
// Owns:      nothing.
// Invariant: a missing file, or one that can't be parsed, reads as absent; no file is trusted to be complete.
// Callers:   any thread. Reads files; may block as long as sysfs does (microseconds).
// Fails:     never: a std::optional is empty, a list is empty.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tierd {

// A path's first line without the line's end; empty when there is no such file.
std::string read_sysfs_line(const std::string& path);

// The file's whole text, at most 64 KiB of it.
std::string read_sysfs_text(const std::string& path);

// A line that is one number from 0 up, and nothing else.
std::optional<uint64_t> read_sysfs_number(const std::string& path);

// The kernel's way to write sets: "0-2,5" is {0, 1, 2, 5}. Stops at what it can't read, and at 4096 members: a set of
// nodes is small, and a broken file must not cost memory.
std::vector<int> parse_cpu_list(std::string_view list);

// The number at the end of "node12" after `prefix`; empty for every other name.
std::optional<int> number_after(std::string_view name, std::string_view prefix);

// Names in a folder, sorted; empty when there is none.
std::vector<std::string> list_folder(const std::string& path);

}  // namespace tierd
