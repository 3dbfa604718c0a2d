// policy_times.cc - what a policy's calls cost: policy_times FOLDER prints JSON.
//
// Owns:      its tables; FOLDER holds the objects (hotness.bpf.o, fifo.bpf.o).
// Callers:   bench/policy.py. Needs the right to load BPF; takes some seconds.
// Fails:     exit status 1 and a line on stderr.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/policy/bpf_object.h"

namespace tierd {
namespace {

constexpr int kRuns = 21;

template <class T>
T must(Result<T> result) {
    if (result) return std::move(*result);
    std::fprintf(stderr, "policy_times: %s\n", result.error().text().c_str());
    std::exit(1);
}

uint64_t median(std::vector<uint64_t> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

// Two tiers, the fast one full; every extent in memory, heats spread over the powers of two, most of them low.
void fill(BpfTables& tables) {
    std::mt19937 random(1);
    uint32_t fast_rows = tables.capacity() / 4;
    for (int number : {1, 2}) {
        tierd_tier_info& tier = tables.tiers()[number];
        tier.capacity_bytes = tier.used_bytes =
            uint64_t{number == 1 ? fast_rows : tables.capacity()} * 2 * kMiB;
        tier.kind = static_cast<uint8_t>(number == 1 ? TIERD_KIND_DRAM : TIERD_KIND_CXL);
        tier.rank = static_cast<uint8_t>(number - 1);
    }
    for (uint32_t i = 0; i < tables.capacity(); i++) {
        tierd_extent& row = tables.extents()[i];
        row.last_touch_ns = monotonic_ns();
        row.bytes = 2 * kMiB;
        row.heat = static_cast<uint32_t>(random()) >> (random() % 24 + 8);
        row.state = TIERD_EXTENT_RESIDENT;
        row.tier = random() % 4 == 0 ? 1 : 2;
        row.next = row.sibling = i;
    }
}

tierd_call call_over(const BpfTables& tables) {
    tierd_call call{};
    call.now_ns = monotonic_ns();
    call.extents = tables.capacity();
    call.tiers = 2;
    return call;
}

// ns of an epoch's sweep, for each extent: the median of the runs, and all of them.
nlohmann::json sweep(const ObjectFile& file, uint32_t rows) {
    auto tables = must(BpfTables::make(rows));
    fill(*tables);
    auto object = must(BpfObject::load(file, {}, tables));
    PolicyAnswer answer;
    std::vector<uint64_t> ns;
    nlohmann::json each = nlohmann::json::array();
    for (int run = 0; run < kRuns; run++) {
        ns.push_back(object->run(Hook::epoch, call_over(*tables), answer).cpu_ns);
        each.push_back(static_cast<double>(ns.back()) / rows);
    }
    return {{"ns_per_extent", static_cast<double>(median(ns)) / rows}, {"runs", each}};
}

nlohmann::json calls(const ObjectFile& file) {
    auto tables = must(BpfTables::make(1024));
    fill(*tables);
    auto object = must(BpfObject::load(file, {}, tables));
    PolicyAnswer answer;
    nlohmann::json each = nlohmann::json::array();
    for (int run = 0; run < kRuns; run++) {
        constexpr uint32_t kCalls = 10'000;
        uint64_t before = monotonic_ns();
        for (uint32_t i = 0; i < kCalls; i++) {
            tierd_call call = call_over(*tables);
            call.extent = i % 1024;
            object->run(Hook::fault, call, answer);
        }
        each.push_back(static_cast<double>(monotonic_ns() - before) / kCalls);
    }
    return each;
}

// From the file to the first answer, over tables of 32 Ki rows that are there already.
nlohmann::json loads(const std::string& path) {
    auto tables = must(BpfTables::make(32 << 10));
    fill(*tables);
    nlohmann::json each = nlohmann::json::array();
    for (int run = 0; run < 5; run++) {
        uint64_t before = monotonic_ns();
        auto object = must(BpfObject::load(must(read_object(path)), {}, tables));
        PolicyAnswer answer;
        object->run(Hook::epoch, call_over(*tables), answer);
        each.push_back(static_cast<double>(monotonic_ns() - before) / 1e6);
    }
    return each;
}

}  // namespace
}  // namespace tierd

int main(int argc, char** argv) {
    using namespace tierd;
    if (argc != 2) {
        std::fprintf(stderr, "usage: policy_times FOLDER\n");
        return 1;
    }
    std::string folder = argv[1];
    auto hotness = must(read_object(folder + "/hotness.bpf.o"));
    nlohmann::json out{{"call_ns", calls(must(read_object(folder + "/fifo.bpf.o")))},
                       {"load_ms", loads(folder + "/hotness.bpf.o")},
                       {"metadata_bytes", sizeof(tierd_extent) + sizeof(tierd_extent_ctx)}};
    for (uint32_t rows : {1u << 10, 32u << 10, 1u << 20})
        out["sweep"][std::to_string(rows)] = sweep(hotness, rows);
    std::printf("%s\n", out.dump().c_str());
    return 0;
}
