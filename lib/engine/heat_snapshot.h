// heat_snapshot.h - the heat of all extents at one moment, copied out of the engine's thread.
//
// Owns:      copies of rows, and references to their files, whose layout and map never change.
// Callers:   any thread.
#pragma once

#include <memory>
#include <vector>

#include "lib/engine/weight_file.h"
#include "lib/sample/hot.h"

namespace tierd {

struct HeatSnapshot {
    struct File {
        std::shared_ptr<const WeightFile> file;
        std::vector<tierd_extent> extents;
        std::vector<int> reader_nodes;  // of each extent; see HeatEstimator::reader_node()
    };
    std::vector<File> files;
    Readers readers;
};

// Rows of all files, hottest first, at most kMostHotRows. Errors: bad_input for an unknown word.
inline constexpr size_t kMostHotRows = 1000;
Result<std::vector<HotRow>> hot_rows(const HeatSnapshot& snapshot, const std::string& by);

}  // namespace tierd
