#include "lib/sample/perf_sample.h"

#include <linux/perf_event.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace tierd {

namespace {

// Everything up to the last field that is of use; the fields after it need not be known.
constexpr uint64_t kLastOfUse = PERF_SAMPLE_PHYS_ADDR;

// Takes values from the front; `good` turns false, and stays so, when there are too few bytes.
struct Cursor {
    std::span<const std::byte> rest;
    bool good = true;

    void skip(uint64_t bytes) {
        if (bytes > rest.size()) good = false;
        rest = good ? rest.subspan(bytes) : std::span<const std::byte>{};
    }
    template <class T>
    T take() {
        T value{};
        if (rest.size() >= sizeof value) std::memcpy(&value, rest.data(), sizeof value);
        skip(sizeof value);
        return value;
    }
    // `count` elements of `bytes` each.
    void skip_array(uint64_t count, uint64_t bytes) {
        if (count > rest.size()) good = false;
        if (good) skip(count * bytes);
    }
};

void skip_read(Cursor& in, uint64_t read_format) {
    uint64_t times =
        std::popcount(read_format & (PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING));
    uint64_t each = 1 + std::popcount(read_format & (PERF_FORMAT_ID | 1u << 4 /* PERF_FORMAT_LOST */));
    uint64_t count = (read_format & PERF_FORMAT_GROUP) != 0 ? in.take<uint64_t>() : 1;
    in.skip(times * 8);
    in.skip_array(count, each * 8);
}

void skip_registers(Cursor& in, uint64_t mask) {
    if (in.take<uint64_t>() != 0) in.skip(std::popcount(mask) * 8u);
}

void skip_stack(Cursor& in) {
    auto size = in.take<uint64_t>();
    in.skip(size);
    if (size != 0) in.skip(8);
}

void skip_branches(Cursor& in, const SampleFormat& format) {
    auto count = in.take<uint64_t>();
    if (format.branch_hardware_index) in.skip(8);
    in.skip_array(count, 24);
}

uint32_t saturated(uint64_t cycles) {
    return static_cast<uint32_t>(std::min<uint64_t>(cycles, UINT32_MAX));
}

// The fields between the period and the weight, none of which is of use here.
void skip_middle(Cursor& in, const SampleFormat& format) {
    const uint64_t fields = format.fields;
    if (fields & PERF_SAMPLE_READ) skip_read(in, format.read_format);
    if (fields & PERF_SAMPLE_CALLCHAIN) in.skip_array(in.take<uint64_t>(), 8);
    if (fields & PERF_SAMPLE_RAW) in.skip(in.take<uint32_t>());
    if (fields & PERF_SAMPLE_BRANCH_STACK) skip_branches(in, format);
    if (fields & PERF_SAMPLE_REGS_USER) skip_registers(in, format.user_registers);
    if (fields & PERF_SAMPLE_STACK_USER) skip_stack(in);
}

}  // namespace

bool is_readable(const SampleFormat& format) {
    bool both = (format.fields & PERF_SAMPLE_WEIGHT) != 0 && (format.fields & kSampleWeightStruct) != 0;
    return !both && (format.read_format & ~uint64_t{31}) == 0;
}

bool parse_sample(std::span<const std::byte> body, const SampleFormat& format, AccessRecord& out) {
    static_assert(kLastOfUse == 1u << 19);
    if (!is_readable(format)) return false;
    out = {};
    Cursor in{body};
    const uint64_t fields = format.fields;
    if (fields & PERF_SAMPLE_IDENTIFIER) in.skip(8);
    if (fields & PERF_SAMPLE_IP) out.instruction = in.take<uint64_t>();
    if (fields & PERF_SAMPLE_TID) {
        out.pid = in.take<uint32_t>();
        out.tid = in.take<uint32_t>();
    }
    if (fields & PERF_SAMPLE_TIME) out.time_ns = in.take<uint64_t>();
    if (fields & PERF_SAMPLE_ADDR) out.address = in.take<uint64_t>();
    if (fields & PERF_SAMPLE_ID) in.skip(8);
    if (fields & PERF_SAMPLE_STREAM_ID) in.skip(8);
    if (fields & PERF_SAMPLE_CPU) {
        out.cpu = in.take<uint32_t>();
        in.skip(4);
    }
    if (fields & PERF_SAMPLE_PERIOD) out.period = in.take<uint64_t>();
    skip_middle(in, format);
    if (fields & PERF_SAMPLE_WEIGHT) out.latency_cycles = saturated(in.take<uint64_t>());
    if (fields & kSampleWeightStruct) {
        out.latency_cycles = in.take<uint32_t>();
        out.whole_cycles = in.take<uint16_t>();
        in.skip(2);  // depends on the processor
    }
    if (fields & PERF_SAMPLE_DATA_SRC) out.data_source = in.take<uint64_t>();
    if (fields & PERF_SAMPLE_TRANSACTION) in.skip(8);
    if (fields & PERF_SAMPLE_REGS_INTR) skip_registers(in, format.interrupt_registers);
    if (fields & PERF_SAMPLE_PHYS_ADDR) out.physical_address = in.take<uint64_t>();
    return in.good;
}

}  // namespace tierd
