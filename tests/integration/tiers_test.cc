// tiers_test.cc - the engine with several memory tiers on one node: their figures are declared, their capacity is accounted,
// and moves take the time that the figures say. What real nodes add is tested in the guest.
#define BOOST_TEST_MODULE tiers
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "lib/base/clock.h"
#include "tests/integration/direct_client.h"

using namespace tierd;
using namespace tierd::test;

namespace {

constexpr uint64_t kFileBytes = 64 * kMiB + 12345;

unsigned char byte_at(uint64_t offset) {
    return static_cast<unsigned char>((offset * 2654435761u + (offset >> 13)) >> 7);
}

TierSpec declared(const std::string& name, TierKind kind, uint64_t mib, uint64_t gib_per_s) {
    return {.name = name,
            .kind = kind,
            .nodes = {},
            .capacity_bytes = mib * kMiB,
            .latency_ns = 100 * static_cast<uint64_t>(kind),
            .bandwidth_bytes_per_s = gib_per_s * kGiB,
            .source = FigureSource::declared};
}

struct Fixture {
    Fixture() {
        directory =
            std::filesystem::temp_directory_path() / ("tierd-tiers-test-" + std::to_string(::getpid()));
        std::filesystem::create_directories(directory);
        path = (directory / "model.weights").string();
        std::vector<char> bytes(kFileBytes);
        for (uint64_t i = 0; i < kFileBytes; i++) bytes[i] = static_cast<char>(byte_at(i));
        std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    ~Fixture() { std::filesystem::remove_all(directory); }

    // HBM of 16 MiB, DRAM of 16, CXL of 24: not room for the whole file.
    std::unique_ptr<Engine> start(uint64_t migrate_bytes_per_s = 0, uint64_t cxl_mib = 24) {
        auto engine = Engine::start(
            {.budget_bytes = 16 * kMiB,
             .tiers = {declared("hbm1", TierKind::hbm, 16, 400), declared("dram0", TierKind::dram, 16, 80),
                       declared("cxl2", TierKind::cxl, cxl_mib, 20)},
             .migrate_bytes_per_s = migrate_bytes_per_s,
             .policy = "lru",
             .epoch_ms = 10});
        BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
        return std::move(*engine);
    }

    std::filesystem::path directory;
    std::string path;
};

// Volatile: a touch counts also where nobody asks for the answer.
uint64_t wrong_bytes(const volatile unsigned char* at, uint64_t begin, uint64_t end, uint64_t step = 509) {
    uint64_t wrong = 0;
    for (uint64_t i = begin; i < end; i += step) wrong += at[i] != byte_at(i);
    return wrong;
}

TierStatus tier(Engine& engine, const std::string& name) {
    auto tiers = engine.tiers().value();
    for (const TierStatus& one : tiers)
        if (one.name == name) return one;
    return {};
}

template <class Done>
bool comes_true(Done done) {
    const uint64_t deadline_ns = monotonic_ns() + 20 * kNsPerSecond;
    while (monotonic_ns() < deadline_ns) {
        if (done()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return done();
}

JobStatus finished(Engine& engine, uint64_t job) {
    comes_true([&] { return engine.job(job).value().finished; });
    return engine.job(job).value();
}

// Looks at every tier's account as often as it can, until it goes.
class BudgetWatch {
  public:
    explicit BudgetWatch(Engine& engine)
        : thread_([this, &engine] {
              while (!stop_.load()) {
                  auto tiers = engine.tiers().value();
                  for (const TierStatus& one : tiers)
                      if (one.used_bytes > one.capacity_bytes) over_++;
                  looks_++;
              }
          }) {}
    ~BudgetWatch() {
        stop_ = true;
        thread_.join();
        BOOST_TEST(over_ == 0u);
        BOOST_TEST(looks_ > 0u);
    }

  private:
    std::atomic<bool> stop_{false};
    std::atomic<uint64_t> over_{0}, looks_{0};
    std::thread thread_;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(all_tiers_are_filled_the_fastest_first_and_none_beyond_its_budget, Fixture) {
    auto engine = start();
    BudgetWatch watch(*engine);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, 6 * kMiB) == 0u);
    BOOST_TEST(tier(*engine, "hbm1").used_bytes >= 6 * kMiB);
    for (int pass = 0; pass < 3; pass++) BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    for (const char* name : {"hbm1", "dram0", "cxl2"}) BOOST_TEST(tier(*engine, name).used_bytes > 0u, name);
    auto names = engine->tiers().value();
    BOOST_TEST(names.front().name == "hbm1");
    BOOST_TEST(names.back().name == "cxl2");
}

BOOST_FIXTURE_TEST_CASE(what_several_sessions_touch_goes_up_though_every_tier_is_full, Fixture) {
    auto engine = start();
    BudgetWatch watch(*engine);
    DirectClient first(*engine);
    const unsigned char* at = first.map(path);
    wrong_bytes(at, 0, kFileBytes, 64 * kKiB);
    auto before = engine->status().value().counters.moves;
    // What lies in the slowest tier, again and again by new sessions: each touch is seen.
    for (int session = 0; session < 8; session++) {
        DirectClient again(*engine);
        BOOST_TEST(wrong_bytes(again.map(path), 32 * kMiB, 44 * kMiB, 4096) == 0u);
    }
    BOOST_TEST(comes_true([&] { return engine->status().value().counters.moves >= before + 6; }));
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_drained_tier_is_empty_and_stays_so_until_it_is_opened_again, Fixture) {
    auto engine = start();
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    wrong_bytes(at, 0, kFileBytes, 64 * kKiB);
    auto job = engine->drain_tier("hbm1");
    BOOST_REQUIRE_MESSAGE(job.has_value(), (job ? "" : job.error().text()));
    BOOST_TEST(job->total_bytes > 0u);
    BOOST_TEST((engine->drain_tier("hbm1").error().code == Code::busy));
    JobStatus end = finished(*engine, job->job);
    BOOST_TEST(end.finished);
    BOOST_TEST(end.error == "");
    BOOST_TEST(end.done_bytes == end.total_bytes);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST(tier(*engine, "hbm1").used_bytes == 0u);
    BOOST_TEST(tier(*engine, "hbm1").state == "closed");
    BOOST_TEST(engine->add_tier({.name = "hbm1"}).value().state == "open");
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST(tier(*engine, "hbm1").used_bytes > 0u);
}

BOOST_FIXTURE_TEST_CASE(a_cancelled_drain_opens_the_tier_and_loses_nothing, Fixture) {
    auto engine = start(4 * kMiB);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    // Little enough that the other tiers have room for it: it moves, slowly.
    wrong_bytes(at, 0, 12 * kMiB, 64 * kKiB);
    auto job = engine->drain_tier("hbm1");
    BOOST_REQUIRE(job.has_value());
    auto end = engine->cancel(job->job);
    BOOST_REQUIRE(end.has_value());
    BOOST_TEST(end->finished);
    BOOST_TEST(end->error == "cancelled");
    BOOST_TEST(tier(*engine, "hbm1").state == "open");
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST((engine->cancel(991).error().code == Code::not_found));
}

BOOST_FIXTURE_TEST_CASE(a_tier_that_is_added_is_used_and_one_that_is_removed_is_gone, Fixture) {
    auto engine = start();
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    wrong_bytes(at, 0, kFileBytes, 64 * kKiB);
    auto added = engine->add_tier({.name = "far",
                                   .kind = TierKind::cxl,
                                   .capacity_bytes = 64 * kMiB,
                                   .latency_ns = 900,
                                   .bandwidth_bytes_per_s = kGiB});
    BOOST_REQUIRE_MESSAGE(added.has_value(), (added ? "" : added.error().text()));
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST(comes_true([&] { return tier(*engine, "far").used_bytes > 0; }));
    for (const char* name : {"far", "cxl2", "hbm1"}) {
        auto job = engine->remove_tier(name);
        BOOST_REQUIRE_MESSAGE(job.has_value(), name);
        BOOST_TEST(finished(*engine, job->job).error == "");
        BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
        BOOST_TEST(tier(*engine, name).name == "");
    }
    BOOST_TEST(engine->tiers().value().size() == 1u);
    BOOST_TEST(engine->status().value().resident_bytes <= 16 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(a_smaller_tier_comes_within_its_capacity, Fixture) {
    auto engine = start();
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    wrong_bytes(at, 0, kFileBytes, 64 * kKiB);
    wrong_bytes(at, 0, kFileBytes, 64 * kKiB);
    BOOST_TEST(engine->resize_tier("cxl2", 16 * kMiB).value().capacity_bytes == 16 * kMiB);
    BOOST_TEST(comes_true([&] { return tier(*engine, "cxl2").used_bytes <= 16 * kMiB; }));
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST(engine->resize_tier("dram0", 32 * kMiB).value().capacity_bytes == 32 * kMiB);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
}

BOOST_FIXTURE_TEST_CASE(what_can_not_be_is_refused_with_what_to_do, Fixture) {
    auto engine = start();
    DirectClient client(*engine);
    wrong_bytes(client.map(path), 0, kFileBytes, 64 * kKiB);
    struct Row {
        int line;
        std::string hint;
        std::function<Error()> ask;
    };
    auto add = [&](TierOverride said) { return [&engine, said] { return engine->add_tier(said).error(); }; };
    const Row kRows[] = {
        {__LINE__, "hbm1, dram0, cxl2", [&] { return engine->drain_tier("none").error(); }},
        {__LINE__, "tierctl budget", [&] { return engine->remove_tier("dram0").error(); }},
        {__LINE__, "hbm1, dram0, cxl2", [&] { return engine->resize_tier("none", kGiB).error(); }},
        {__LINE__, "give at least 16.0 MiB", [&] { return engine->resize_tier("cxl2", kMiB).error(); }},
        {__LINE__, "one of that name", add({.name = "cxl2"})},
        {__LINE__, "a kind and a capacity", add({.name = "x"})},
        {__LINE__, "has no memory",
         add({.name = "x", .kind = TierKind::cxl, .node = 77, .capacity_bytes = kGiB})},
        {__LINE__, "more than its",
         add({.name = "x", .kind = TierKind::cxl, .node = 0, .capacity_bytes = 9000 * kGiB})},
        {__LINE__, "give at least", add({.name = "x", .kind = TierKind::cxl, .capacity_bytes = kMiB})},
    };
    for (const Row& row : kRows) {
        std::string hint = row.ask().hint;
        BOOST_TEST(hint.find(row.hint) != std::string::npos, "row at line " << row.line << ": " << hint);
    }
    // A drain with nowhere to go: the only open tier, and more pinned bytes than others have room for.
    for (const char* name : {"hbm1", "cxl2"}) finished(*engine, engine->drain_tier(name).value().job);
    Error last = engine->drain_tier("dram0").error();
    BOOST_TEST((last.code == Code::no_space));
    BOOST_TEST(last.hint.find("add another tier first") != std::string::npos, last.hint);
}

BOOST_FIXTURE_TEST_CASE(pinned_bytes_move_on_a_drain_or_refuse_it, Fixture) {
    auto engine = start(0, 256);
    BOOST_REQUIRE(
        engine->add_tier({.name = "wide", .kind = TierKind::cxl, .capacity_bytes = 128 * kMiB}).has_value());
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_REQUIRE(engine->pin("model.weights").has_value());
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    auto reads = engine->status().value().counters.bytes_read;
    // What is pinned in the HBM moves; nothing of it is read again.
    BOOST_TEST(finished(*engine, engine->drain_tier("hbm1").value().job).error == "");
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes) == 0u);
    BOOST_TEST(engine->status().value().counters.bytes_read == reads);
    // And it can't when nothing else has room.
    BOOST_TEST(finished(*engine, engine->drain_tier("wide").value().job).error == "");
    Error refused = engine->drain_tier("cxl2").error();
    BOOST_TEST((refused.code == Code::no_space));
    BOOST_TEST(refused.hint.find("MiB in it are pinned and the other tiers have") != std::string::npos,
               refused.hint);
    BOOST_TEST(refused.hint.find("free: unpin") != std::string::npos, refused.hint);
    BOOST_TEST(tier(*engine, "cxl2").state == "open");
}

BOOST_FIXTURE_TEST_CASE(readers_see_the_right_bytes_while_tiers_come_and_go, Fixture) {
    auto engine = start();
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0}, passes{0};
    std::vector<std::thread> readers;
    {
        BudgetWatch watch(*engine);
        DirectClient client(*engine);
        const unsigned char* at = client.map(path);
        for (uint64_t thread = 0; thread < 2; thread++)
            readers.emplace_back([&, thread] {
                while (!stop.load()) {
                    wrong += wrong_bytes(at, thread * 4096, kFileBytes, 8191);
                    passes++;
                }
            });
        for (int round = 0; round < 25; round++) {
            const char* name = round % 2 == 0 ? "hbm1" : "cxl2";
            auto job = engine->drain_tier(name);
            if (job) BOOST_TEST(finished(*engine, job->job).error == "");
            BOOST_TEST(engine->add_tier({.name = name}).has_value());
        }
        comes_true([&] { return passes.load() >= 4; });
        stop = true;
        for (std::thread& reader : readers) reader.join();
    }
    BOOST_TEST(wrong == 0u);
    BOOST_TEST(engine->status().value().counters.moves > 0u);
}

BOOST_FIXTURE_TEST_CASE(what_threads_of_a_node_read_goes_to_the_equally_fast_tier_near_them, Fixture) {
    // This machine's node 0 is everybody's; of the other tier nobody knows where it is.
    TierSpec near = declared("near", TierKind::hbm, 96, 400);
    near.nodes = {0};
    auto engine = Engine::start({.budget_bytes = 16 * kMiB,
                                 .tiers = {declared("aside", TierKind::hbm, 96, 400), near,
                                           declared("dram0", TierKind::dram, 16, 80)},
                                 .huge_pages = HugePages::off,
                                 .policy = "lru",
                                 .epoch_ms = 10,
                                 .sample_source = "hint"});
    BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
    DirectClient client(**engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 64 * kKiB) == 0u);
    BOOST_TEST(tier(**engine, "aside").used_bytes >= kFileBytes);
    auto read = [&] { return wrong_bytes(at, 0, kFileBytes, 4096); };
    BOOST_TEST(comes_true([&] { return read() == 0 && tier(**engine, "near").used_bytes >= 8 * kMiB; }));
    // Also when it is read from the disk again.
    BOOST_REQUIRE((*engine)->evict("model.weights").value() > 0);
    BOOST_TEST(comes_true([&] { return tier(**engine, "near").used_bytes == 0; }));
    BOOST_TEST(read() == 0u);
    BOOST_TEST(tier(**engine, "near").used_bytes >= 8 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(a_file_that_changes_while_its_extents_move_is_dropped, Fixture) {
    auto engine = start(8 * kMiB);
    DirectClient client(*engine);
    wrong_bytes(client.map(path), 0, 12 * kMiB, 64 * kKiB);
    BOOST_REQUIRE(engine->drain_tier("hbm1").has_value());
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now());
    BOOST_TEST(comes_true([&] { return engine->status().value().resident_bytes == 0; }));
}
