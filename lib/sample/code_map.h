// code_map.h - which binary an instruction's address belongs to.
//
// Owns:      the executable mappings of the processes that were looked up.
// Callers:   one thread. A live map reads /proc/PID/maps, at most once a second for each process.
// Fails:     with an empty place.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "lib/sample/hot.h"

namespace tierd {

class CodeMap {
  public:
    // `live`: what is not known is looked up in /proc; else only what was added is known.
    explicit CodeMap(bool live) : live_(live) {}

    void add(uint32_t pid, uint64_t address, uint64_t length_bytes, uint64_t offset_bytes,
             const std::string& path);
    CodePlace find(uint32_t pid, uint64_t instruction, uint64_t now_ns);

  private:
    static constexpr size_t kMostProcesses = 1024;
    struct Range {
        uint64_t end = 0, offset_bytes = 0;
        std::string path;
    };
    struct Process {
        std::map<uint64_t, Range> ranges;  // by address
        uint64_t read_ns = 0;
    };
    void read_maps(uint32_t pid, Process& process);
    static CodePlace place_in(const Process& process, uint64_t instruction);

    bool live_;
    std::map<uint32_t, Process> processes_;
};

}  // namespace tierd
