// A recording made under one policy, replayed with every other: the bytes that it predicts are those that tierd reads live, or
// the replay says that the recording can't tell.
#define BOOST_TEST_MODULE replay_table
#include <fmt/format.h>
#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "lib/policy/bpf_object.h"
#include "lib/replay/replay.h"
#include "lib/trace/trace_reader.h"
#include "tests/integration/direct_client.h"

using namespace tierd;
using namespace tierd::test;

namespace {

constexpr uint64_t kExtentBytes = 256 * kKiB;
constexpr uint32_t kExtents = 96;
constexpr uint64_t kBudgetBytes = kExtents / 2 * kExtentBytes;
constexpr int kPasses = 8;
constexpr double kTolerance = 0.15;

std::string build_folder() {
    const char* folder = std::getenv("TIERD_BUILD_DIR");
    return folder == nullptr ? "build" : folder;
}

struct WeightsFile {
    WeightsFile() {
        char form[] = "/tmp/tierd_replay_table_XXXXXX";
        folder = ::mkdtemp(form);
        path = folder + "/model.weights";
        std::ofstream(path, std::ios::binary) << std::string(kExtents * kExtentBytes, 'w');
    }
    ~WeightsFile() { std::filesystem::remove_all(folder); }
    std::string folder, path;
};

// Built-in policies by their names, shipped objects as "bpf:name".
std::vector<std::string> policies() {
    std::vector<std::string> names = {"lru", "sweep", "auto"};
    if (!bpf_usable()) return names;
    for (const char* name : {"fifo", "lru", "sweep", "experts", "hotness", "fair"})
        names.push_back(std::string("bpf:") + name);
    return names;
}

ObjectFile object_of(const std::string& policy) {
    return read_object(build_folder() + "/policies/" + policy.substr(4) + ".bpf.o").value();
}

struct Live {
    uint64_t bytes_read = 0;
    std::string trace;
};

// Reads the whole file kPasses times under the policy, from cold, and records it.
Live run_live(const std::string& path, const std::string& policy, uint64_t budget_bytes,
              bool complete = false) {
    const bool is_object = policy.starts_with("bpf:");
    auto engine = Engine::start({.budget_bytes = budget_bytes,
                                 .extent_bytes = kExtentBytes,
                                 .huge_pages = HugePages::off,
                                 .policy = is_object ? "auto" : policy});
    BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
    if (is_object) {
        ObjectFile object = object_of(policy);
        auto loaded = (*engine)->load_policy({object.name, object.bytes, {}});
        BOOST_REQUIRE_MESSAGE(loaded.has_value(), (loaded ? "" : loaded.error().text()));
    }
    Live live;
    live.trace = (*engine)->start_trace(complete).value().bytes;
    {
        DirectClient client(**engine);
        const unsigned char* at = client.map(path);
        uint64_t sum = 0;
        for (int pass = 0; pass < kPasses; pass++)
            for (uint64_t i = 0; i < kExtents * kExtentBytes; i += 512) sum += at[i];
        BOOST_TEST(sum == kPasses * (kExtents * kExtentBytes / 512) * 'w');
        live.bytes_read = (*engine)->status().value().counters.bytes_read;
    }
    live.trace += (*engine)->stop_trace().value().bytes;
    return live;
}

uint64_t predicted_bytes(const Workload& workload, const std::string& policy, uint64_t budget_bytes) {
    const ReplayTiers tiers = plain_tiers(budget_bytes);
    auto result = policy.starts_with("bpf:") ? replay_policy(workload, tiers, object_of(policy), {})
                                             : replay_builtin(workload, tiers, policy);
    BOOST_REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().text()));
    return result->bytes_read;
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_recording_under_any_policy_predicts_what_every_other_reads_or_can_not_tell,
                        WeightsFile) {
    std::map<std::string, Live> live;
    for (const std::string& policy : policies()) live[policy] = run_live(path, policy, kBudgetBytes);
    for (auto& [recorded, run] : live) {
        Trace trace = parse_trace(run.trace).value();
        Workload workload = make_workload(trace).value();
        BOOST_TEST_MESSAGE(fmt::format("recorded under {}: {} of {} touches filled in {}", recorded,
                                       workload.unseen, workload.order.size(), workload.cant_tell));
        if (!workload.cant_tell.empty()) continue;
        for (auto& [played, other] : live) {
            double predicted = static_cast<double>(predicted_bytes(workload, played, kBudgetBytes));
            double read = static_cast<double>(other.bytes_read);
            BOOST_TEST_MESSAGE(fmt::format("  {}: predicted {:.1f} MiB, read {:.1f}", played,
                                           predicted / kMiB, read / kMiB));
            BOOST_TEST(std::abs(predicted - read) <= kTolerance * read,
                       fmt::format("recorded under {}, {} is predicted to read {:.1f} MiB and reads {:.1f}",
                                   recorded, played, predicted / kMiB, read / kMiB));
        }
    }
    // The two that matter most are always told: what is held is filled in, what is missed is seen.
    for (const char* sure : {"lru", "auto"}) {
        Trace trace = parse_trace(live[sure].trace).value();
        BOOST_TEST(make_workload(trace).value().cant_tell == "");
    }
}

BOOST_FIXTURE_TEST_CASE(a_recording_of_a_model_that_fits_can_not_tell_and_a_complete_one_can, WeightsFile) {
    const uint64_t plenty = 2 * kExtents * kExtentBytes;
    Trace blind = parse_trace(run_live(path, "auto", plenty).trace).value();
    BOOST_TEST(make_workload(blind).value().cant_tell != "");
    Trace complete = parse_trace(run_live(path, "auto", plenty, true).trace).value();
    BOOST_TEST(complete.complete);
    Workload workload = make_workload(complete).value();
    BOOST_TEST(workload.cant_tell == "");
    double predicted = static_cast<double>(predicted_bytes(workload, "lru", kBudgetBytes));
    double read = static_cast<double>(run_live(path, "lru", kBudgetBytes).bytes_read);
    BOOST_TEST(std::abs(predicted - read) <= kTolerance * read);
}
