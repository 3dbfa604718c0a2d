// hot.h - heat grouped by tensor, layer, expert, extent, function or thread.
//
// Owns:      nothing; makes rows of its arguments.
// Callers:   any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/sample/attribution.h"
#include "lib/sample/cpu_nodes.h"

namespace tierd {

enum class HotBy : uint8_t { tensor, layer, expert, extent, function, thread };
// "tensor", ...; nothing for any other word.
std::optional<HotBy> hot_by(std::string_view word) noexcept;

struct HotRow {
    std::string model;
    std::string name;           // of the tensor, function or thread; "extent 7"; empty for layers and experts
    std::string object;         // of a function: the binary
    uint64_t offset_bytes = 0;  // of a function: in the binary. Of an extent: in the file
    int layer = -1;             // -1: none
    int expert = -1;            // -1: none
    uint64_t bytes = 0;
    double heat = 0;  // decayed touches of whole extents; of a replay: accesses
    uint64_t samples = 0;
    int node =
        kNoNode;  // of a thread: the memory node of the processors that it ran on. Of an extent: reader_node()
};

struct ExtentHeat {
    double heat = 0;
    uint64_t samples = 0;
    int node = kNoNode;
};

// Rows by tensor, layer, expert or extent of one file, hottest first. An extent that several tensors share gives each
// its part by bytes. `extents`: one for each of the file.
std::vector<HotRow> hot_rows(const std::string& model, const ExtentLayout& layout, const TensorMap& map,
                             std::span<const ExtentHeat> extents, HotBy by);

// Hottest first; of equals by name.
void sort_hot(std::vector<HotRow>& rows);

// Where an instruction lies.
struct CodePlace {
    std::string object;  // path of the binary; "[kernel]"; empty: unknown
    uint64_t offset_bytes = 0;
    auto operator<=>(const CodePlace&) const = default;
};

// Readers: accesses by instruction and by thread. Holds at most kMostRows of each; what comes beyond is one row of
// its own.
class Readers {
  public:
    static constexpr size_t kMostRows = 8192;
    void add(const std::string& model, const CodePlace& code, uint32_t pid, uint32_t tid, int node,
             double accesses);
    // A thread alone, where the instruction isn't known. A thread that moves between nodes has a row for each.
    void add_thread(const std::string& model, uint32_t pid, uint32_t tid, int node, double accesses);
    // Everything counts `factor` of what it did; rows that fall below a hundredth go.
    void decay(double factor);
    std::vector<HotRow> rows(HotBy by) const;  // function or thread

  private:
    struct Count {
        double accesses = 0;
        uint64_t samples = 0;
    };
    using Key = std::pair<std::string, CodePlace>;
    std::map<Key, Count> code_;
    struct ThreadPlace {
        uint32_t pid = 0, tid = 0;  // 0: all that came when there were too many rows
        int node = kNoNode;
        auto operator<=>(const ThreadPlace&) const = default;
    };
    std::map<std::pair<std::string, ThreadPlace>, Count> threads_;
};

}  // namespace tierd
