// spe_packets.h - decodes the packets of Arm's Statistical Profiling Extension into records.
//
// Owns:      nothing: an SpeDecoder keeps counts, and the beginning of a record that continues in the next block.
// Invariant: never reads beyond the given bytes, whatever they contain. An unknown packet makes the rest of its record
//            unreadable: it is skipped to the next end of a record and counted.
// Callers:   one thread per decoder.
// Source:    Arm Architecture Reference Manual for A-profile, "Statistical Profiling Extension Sample Record
//            Specification". Each processor defines its data sources: Neoverse's technical reference manuals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tierd {

// One sampled operation. A field that the record does not hold is 0.
struct SpeRecord {
    uint64_t instruction = 0;
    uint64_t address = 0;           // of the data, virtual
    uint64_t physical_address = 0;  // of the data
    uint64_t timestamp = 0;         // ticks of the system counter
    uint64_t events = 0;            // a bit each; see SpeEvent
    uint16_t total_cycles = 0;      // from dispatch to completion
    uint16_t issue_cycles = 0;
    uint16_t translation_cycles = 0;
    uint16_t data_source = 0;
    uint32_t context = 0;  // CONTEXTIDR: Linux keeps the thread's number there, if it was built to
    bool has_data_source = false;
    bool has_context = false;
    bool is_load = false;
    bool is_store = false;
};

enum SpeEvent : uint64_t {
    kSpeL1Miss = 1u << 3,
    kSpeTlbWalk = 1u << 5,
    kSpeLastLevelAccess = 1u << 8,
    kSpeLastLevelMiss = 1u << 9,
    kSpeRemoteAccess = 1u << 10,
};

// The word that the kernel would give for the record: union perf_mem_data_src. `neoverse`: its data sources are those
// of Arm's Neoverse processors; for others only the events are used.
uint64_t perf_data_source(const SpeRecord& record, bool neoverse) noexcept;

// True for the main id register of a processor whose data sources are Neoverse's.
bool is_neoverse(uint64_t midr) noexcept;

class SpeDecoder {
  public:
    using Visitor = std::function<void(const SpeRecord&)>;
    static constexpr size_t kMostRecordBytes = 2048;  // PMSIDR.MaxSize allows no more

    // Goes on where the last piece ended.
    void decode(std::span<const std::byte> piece, const Visitor& visit);
    // What comes next does not follow what came before: records were lost in between.
    void restart();

    uint64_t records() const { return records_; }
    uint64_t damaged() const { return damaged_; }  // records, or what was to be one

  private:
    struct Packet {
        size_t bytes = 0;  // with its header; 0: it goes on behind the end
        bool known = true;
        bool has_content = true;  // else it is padding, or an end
        bool ends_record = false;
    };
    static Packet read_packet(std::span<const std::byte> bytes, SpeRecord& record);
    void end_record(const Visitor& visit);

    SpeRecord record_;
    bool begun_ = false;   // it holds something
    bool broken_ = false;  // skipping to the end of a record that can't be read
    size_t record_bytes_ = 0;
    std::vector<std::byte> rest_;  // the begin of a packet
    uint64_t records_ = 0;
    uint64_t damaged_ = 0;
};

}  // namespace tierd
