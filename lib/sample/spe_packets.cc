#include "lib/sample/spe_packets.h"

#include <linux/perf_event.h>

#include <algorithm>
#include <bit>

namespace tierd {

namespace {

// Headers, by the bits that do not vary.
constexpr uint8_t kPadding = 0x00, kEnd = 0x01, kTimestamp = 0x71;
constexpr uint8_t kExtended = 0x20;    // & 0xfc: two bits of an index, then a second header byte
constexpr uint8_t kEvents = 0x42;      // & 0xcf
constexpr uint8_t kDataSource = 0x43;  // & 0xcf
constexpr uint8_t kContext = 0x64;     // & 0xfc: the exception level
constexpr uint8_t kOperation = 0x48;   // & 0xfc: the class
constexpr uint8_t kAddress = 0xb0;     // & 0xf8: the index
constexpr uint8_t kCounter = 0x98;     // & 0xf8: the index
constexpr uint8_t kLoadStore = 1;      // class of operations
constexpr uint64_t kAddressBits = (uint64_t{1} << 56) - 1;

// 1, 2, 4 or 8 bytes follow a header.
size_t payload_bytes(uint8_t header) {
    return size_t{1} << (header >> 4 & 3);
}

uint64_t value_of(std::span<const std::byte> payload) {
    uint64_t value = 0;
    for (size_t i = 0; i < payload.size(); i++) value |= static_cast<uint64_t>(payload[i]) << (8 * i);
    return value;
}

// The top byte is a tag, or holds levels and security; of the kernel's addresses it is all ones.
uint64_t virtual_address(uint64_t payload) {
    uint64_t address = payload & kAddressBits;
    return (address >> 55 & 1) != 0 ? address | ~kAddressBits : address;
}

void take_address(SpeRecord& record, unsigned index, uint64_t payload) {
    switch (index) {
        case 0:
            record.instruction = virtual_address(payload);
            break;
        case 2:
            record.address = virtual_address(payload);
            break;
        case 3:
            record.physical_address = payload & kAddressBits;
            break;
        default:  // targets of branches, and what may come
            break;
    }
}

void take_counter(SpeRecord& record, unsigned index, uint64_t payload) {
    auto cycles = static_cast<uint16_t>(std::min<uint64_t>(payload, UINT16_MAX));
    if (index == 0) record.total_cycles = cycles;
    if (index == 1) record.issue_cycles = cycles;
    if (index == 2) record.translation_cycles = cycles;
}

// False where the packet is not known.
bool take(SpeRecord& record, uint8_t header, unsigned more_index, uint64_t payload) {
    if ((header & 0xf8) == kAddress) {
        take_address(record, more_index << 3 | (header & 7), payload);
    } else if ((header & 0xf8) == kCounter) {
        take_counter(record, more_index << 3 | (header & 7), payload);
    } else if (more_index != 0) {
        return false;
    } else if (header == kTimestamp) {
        record.timestamp = payload;
    } else if ((header & 0xcf) == kEvents) {
        record.events = payload;
    } else if ((header & 0xcf) == kDataSource) {
        record.data_source = static_cast<uint16_t>(payload);
        record.has_data_source = true;
    } else if ((header & 0xfc) == kContext) {
        record.context = static_cast<uint32_t>(payload);
        record.has_context = true;
    } else if ((header & 0xfc) == kOperation) {
        bool memory = (header & 3) == kLoadStore;
        record.is_store = memory && (payload & 1) != 0;
        record.is_load = memory && (payload & 1) == 0;
    } else {
        return false;
    }
    return true;
}

perf_mem_data_src with_level(perf_mem_data_src word, uint64_t level, uint64_t number, bool remote) {
    word.val |= (PERF_MEM_LVL_HIT | level) << PERF_MEM_LVL_SHIFT;
    word.mem_lvl_num = number & 0xf;
    word.mem_remote = remote;
    return word;
}

// Data sources of Neoverse: 8 L2, 9 another core's, 10 another cluster's near, 11 system cache, 12 another cluster's
// far, 13 another chip's, 14 memory.
perf_mem_data_src by_neoverse(perf_mem_data_src word, const SpeRecord& record) {
    const bool remote = (record.events & kSpeRemoteAccess) != 0;
    switch (record.data_source) {
        case 0:
            return with_level(word, PERF_MEM_LVL_L1, PERF_MEM_LVLNUM_L1, false);
        case 8:
            return with_level(word, PERF_MEM_LVL_L2, PERF_MEM_LVLNUM_L2, false);
        case 9:
        case 10:
        case 11:
        case 12:
            return with_level(word, PERF_MEM_LVL_L3, PERF_MEM_LVLNUM_L3, false);
        case 13:
            return with_level(word, PERF_MEM_LVL_REM_CCE1, PERF_MEM_LVLNUM_ANY_CACHE, true);
        case 14:
            return with_level(word, remote ? PERF_MEM_LVL_REM_RAM1 : PERF_MEM_LVL_LOC_RAM,
                              PERF_MEM_LVLNUM_RAM, remote);
        default:
            word.mem_lvl_num = PERF_MEM_LVLNUM_NA;
            return word;
    }
}

// A miss of the last cache went to memory; one that missed the first only may have gone anywhere between.
perf_mem_data_src by_events(perf_mem_data_src word, const SpeRecord& record) {
    if ((record.events & kSpeLastLevelMiss) != 0) {
        const bool remote = (record.events & kSpeRemoteAccess) != 0;
        return with_level(word, remote ? PERF_MEM_LVL_REM_RAM1 : PERF_MEM_LVL_LOC_RAM, PERF_MEM_LVLNUM_RAM,
                          remote);
    }
    if ((record.events & kSpeLastLevelAccess) != 0)
        return with_level(word, PERF_MEM_LVL_L3, PERF_MEM_LVLNUM_L3, false);
    if ((record.events & kSpeL1Miss) == 0)
        return with_level(word, PERF_MEM_LVL_L1, PERF_MEM_LVLNUM_L1, false);
    word.mem_lvl_num = PERF_MEM_LVLNUM_NA;
    return word;
}

}  // namespace

uint64_t perf_data_source(const SpeRecord& record, bool neoverse) noexcept {
    perf_mem_data_src word{};
    if (!record.is_load && !record.is_store) return 0;
    word.mem_op = record.is_store ? PERF_MEM_OP_STORE : PERF_MEM_OP_LOAD;
    // Data sources are those of loads.
    bool known = neoverse && record.is_load && record.has_data_source;
    return (known ? by_neoverse(word, record) : by_events(word, record)).val;
}

bool is_neoverse(uint64_t midr) noexcept {
    constexpr uint64_t kArm = 0x41;
    // N1, V1, N2, V2, N3, V3
    constexpr uint64_t kParts[] = {0xd0c, 0xd40, 0xd49, 0xd4f, 0xd8e, 0xd84};
    return (midr >> 24 & 0xff) == kArm && std::ranges::find(kParts, midr >> 4 & 0xfff) != std::end(kParts);
}

SpeDecoder::Packet SpeDecoder::read_packet(std::span<const std::byte> bytes, SpeRecord& record) {
    const auto first = static_cast<uint8_t>(bytes[0]);
    if (first == kPadding) return {.bytes = 1, .has_content = false};
    if (first == kEnd) return {.bytes = 1, .has_content = false, .ends_record = true};
    size_t header_bytes = 1;
    uint8_t header = first;
    unsigned more_index = 0;
    if ((first & 0xfc) == kExtended) {
        if (bytes.size() < 2) return {};
        header = static_cast<uint8_t>(bytes[1]);
        if (header == kPadding) return {.bytes = 2, .has_content = false};  // alignment
        more_index = first & 3;
        header_bytes = 2;
    }
    const size_t length = header_bytes + payload_bytes(header);
    if (bytes.size() < length) return {};
    bool known =
        take(record, header, more_index, value_of(bytes.subspan(header_bytes, length - header_bytes)));
    return {
        .bytes = length, .known = known, .ends_record = known && header_bytes == 1 && header == kTimestamp};
}

void SpeDecoder::end_record(const Visitor& visit) {
    if (!broken_ && begun_) {
        records_++;
        visit(record_);
    }
    record_ = {};
    begun_ = broken_ = false;
    record_bytes_ = 0;
}

void SpeDecoder::restart() {
    if (begun_ || broken_ || !rest_.empty()) damaged_++;
    rest_.clear();
    record_ = {};
    begun_ = broken_ = false;
    record_bytes_ = 0;
}

void SpeDecoder::decode(std::span<const std::byte> piece, const Visitor& visit) {
    std::vector<std::byte> joined;
    if (!rest_.empty()) {
        joined.swap(rest_);
        joined.insert(joined.end(), piece.begin(), piece.end());
        piece = joined;
    }
    while (!piece.empty()) {
        Packet packet = read_packet(piece, record_);
        if (packet.bytes == 0) break;
        begun_ |= packet.has_content;
        record_bytes_ += packet.bytes;
        bool too_long = begun_ && record_bytes_ > kMostRecordBytes;
        if ((!packet.known || too_long) && !broken_) {
            damaged_++;
            broken_ = true;
        }
        if (packet.ends_record) end_record(visit);
        if (!begun_) record_bytes_ = 0;  // padding between records
        piece = piece.subspan(packet.bytes);
    }
    rest_.assign(piece.begin(), piece.end());
}

}  // namespace tierd
