// replay.h - attributes the accesses of a recording to weight files, as live sampling does.
//
// Owns:      the files' headers and the counts.
// Invariant: each record is attributed to what its process had mapped there at the record's time.
// Callers:   any thread. Blocks on the recording and on the headers of the weight files in it.
// Fails:     with read_perf_data()'s errors; weight files that can't be opened are counted, not fatal.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/sample/attribution.h"
#include "lib/sample/hot.h"
#include "lib/sample/perf_data.h"

namespace tierd {

struct ReplayedFile {
    std::shared_ptr<const SampledFile> file;
    std::string path;
    std::vector<ExtentHeat> extents;
};

struct Replay {
    std::vector<ReplayedFile> files;
    Readers readers;
    PerfDataCounters counters;
    uint64_t attributed = 0;
    uint64_t elsewhere = 0;             // records whose address is in no weight file
    std::vector<std::string> unopened;  // weight files that were mapped, but can't be read now
    uint64_t unknown_arenas = 0;        // mappings of tierd's memory, of which is not known what it stood for
};

// A weight file that an engine had mapped from tierd's memory.
struct ServedFile {
    std::string path;
    uint64_t extent_bytes = 0;
};

struct ReplayConfig {
    uint64_t extent_bytes = 2u << 20;
    std::function<bool(const std::string& path)> is_weights;  // which mapped files are meant
    std::map<std::string, ServedFile> served;  // by PerfMmap::inode: what tierd's memory stood for
};

// True for *.gguf and *.safetensors, and for the paths and names in `more`.
bool is_weight_path(const std::string& path, const std::vector<std::string>& more);

Result<Replay> replay_perf_data(const std::string& path, const ReplayConfig& config);

}  // namespace tierd
