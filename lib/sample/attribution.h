// attribution.h - maps an address in a process to the byte of the weight file that was mapped there at that time.
//
// Owns:      MappingHistory: which process had which file mapped where, and when; AddressMap: one immutable snapshot
//            of it.
// Invariant: an AddressMap never changes. Live mappings of one process do not overlap; ended ones are kept for
//            kKeepEndedNs, so that records that are read late still find the mapping of their time.
// Callers:   MappingHistory by one thread (the engine's, or a replay); an AddressMap by any thread.
// Fails:     never: the result gives the reason if an address can't be attributed, and the caller counts it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/model/extent_layout.h"
#include "lib/model/tensor_map.h"

namespace tierd {

// What attribution needs of a weight file; constant once made.
struct SampledFile {
    uint64_t number = 0;
    std::string name;
    ExtentLayout layout;
    TensorMap map;
};

struct SampledMapping {
    uint64_t address = 0;
    uint64_t length_bytes = 0;
    uint64_t offset_bytes = 0;  // in the file
    uint64_t since_ns = 0;
    uint64_t until_ns = UINT64_MAX;
    std::shared_ptr<const SampledFile> file;

    uint64_t end() const { return address + length_bytes; }
};

enum class Found : uint8_t {
    yes,
    other_process,  // one that has no weights mapped, and had none lately
    ended_process,  // its session has ended
    other_address,  // no weights stood there at that time
};

struct Place {
    Found found = Found::other_process;
    const SampledFile* file = nullptr;  // alive as long as the map
    uint32_t extent = 0;
    uint64_t offset_bytes = 0;  // in the file
};

class AddressMap {
  public:
    // O(log mappings of the process).
    Place find(uint32_t pid, uint64_t address, uint64_t time_ns) const;
    // Records later than this may be about mappings that this map does not know yet.
    uint64_t as_of_ns() const { return as_of_ns_; }

  private:
    friend class MappingHistory;
    struct Process {
        std::vector<SampledMapping> live;   // ascending by address
        std::vector<SampledMapping> ended;  // ascending by address; may overlap
        uint64_t longest_ended_bytes = 0;
        uint64_t ended_ns = UINT64_MAX;  // when the process did
    };
    std::unordered_map<uint32_t, std::shared_ptr<const Process>> processes_;
    uint64_t as_of_ns_ = 0;
};

class MappingHistory {
  public:
    static constexpr uint64_t kKeepEndedNs = 2'000'000'000;
    // `keep_all`: for a replay, which reads all mappings before the first record.
    explicit MappingHistory(bool keep_all = false) : keep_all_(keep_all) {}

    // From `mapping.since_ns` on; what it covers of others ends there.
    void add(uint32_t pid, SampledMapping mapping);
    void remove(uint32_t pid, uint64_t address, uint64_t length_bytes, uint64_t now_ns);
    void end_process(uint32_t pid, uint64_t now_ns);
    // The child of a fork has what its parent has.
    void fork(uint32_t parent, uint32_t child, uint64_t now_ns);

    // The state now. Costs what has changed since the last call, and O(processes).
    std::shared_ptr<const AddressMap> publish(uint64_t now_ns);

  private:
    struct Process {
        std::map<uint64_t, SampledMapping> live;  // by address
        std::vector<SampledMapping> ended;
        uint64_t ended_ns = UINT64_MAX;
        bool changed = true;
        std::shared_ptr<const AddressMap::Process> built;
    };
    void cut(Process& process, uint64_t begin, uint64_t end, uint64_t now_ns);
    void forget_old(uint64_t now_ns);
    static std::shared_ptr<const AddressMap::Process> build(const Process& process);

    bool keep_all_;
    std::map<uint32_t, Process> processes_;
};

// The tensor that holds the byte, or null.
const Tensor* tensor_at(const TensorMap& map, uint64_t offset_bytes);

}  // namespace tierd
