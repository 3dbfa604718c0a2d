#define BOOST_TEST_MODULE engine
#include <fmt/format.h>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "lib/trace/trace_reader.h"
#include "tests/integration/direct_client.h"

using namespace tierd;
using namespace tierd::test;

namespace {

constexpr uint64_t kFileBytes = 64 * kMiB + 12345;

unsigned char byte_at(uint64_t offset) {
    return static_cast<unsigned char>((offset * 2654435761u + (offset >> 13)) >> 7);
}

struct Fixture {
    Fixture() {
        directory =
            std::filesystem::temp_directory_path() / ("tierd-engine-test-" + std::to_string(::getpid()));
        std::filesystem::create_directories(directory);
        path = (directory / "model.weights").string();
        std::vector<char> bytes(kFileBytes);
        for (uint64_t i = 0; i < kFileBytes; i++) bytes[i] = static_cast<char>(byte_at(i));
        std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    ~Fixture() { std::filesystem::remove_all(directory); }

    std::unique_ptr<Engine> start(uint64_t budget_bytes, const std::string& policy = "auto",
                                  uint64_t extent = 2 * kMiB, HugePages huge = HugePages::automatic) {
        auto engine = Engine::start(
            {.budget_bytes = budget_bytes, .extent_bytes = extent, .huge_pages = huge, .policy = policy});
        BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
        return std::move(*engine);
    }

    std::filesystem::path directory;
    std::string path;
};

uint64_t wrong_bytes(const unsigned char* at, uint64_t begin, uint64_t end, uint64_t step = 1) {
    uint64_t wrong = 0;
    for (uint64_t i = begin; i < end; i += step) wrong += at[i] != byte_at(i);
    return wrong;
}

// Bytes of the mapping at `at` that the kernel maps by huge pages.
uint64_t huge_mapped_bytes(const unsigned char* at) {
    std::ifstream smaps("/proc/self/smaps");
    std::string line, begin = fmt::format("{:x}-", reinterpret_cast<uint64_t>(at));
    bool inside = false;
    while (std::getline(smaps, line)) {
        if (line.find("VmFlags:") == 0) inside = false;
        if (line.find(begin) == 0) inside = true;
        if (inside && line.find("ShmemPmdMapped:") == 0) return std::stoull(line.substr(15)) * kKiB;
    }
    return 0;
}

template <class Done>
bool comes_true(Done done) {
    for (int i = 0; i < 5000 && !done(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return done();
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_mapped_file_reads_as_the_file_does, Fixture) {
    auto engine = start(256 * kMiB);
    DirectClient client(*engine);
    BOOST_TEST(wrong_bytes(client.map(path), 0, kFileBytes) == 0u);
    auto status = engine->status().value();
    BOOST_TEST(status.counters.bytes_read == kFileBytes);
    BOOST_TEST(status.resident_bytes <= status.budget_bytes);
}

BOOST_FIXTURE_TEST_CASE(every_policy_and_extent_size_serves_right_bytes_within_a_small_budget, Fixture) {
    for (const char* policy : {"lru", "sweep", "auto"}) {
        for (uint64_t extent : {64 * kKiB, 2 * kMiB}) {
            auto engine = start(16 * kMiB, policy, extent);
            DirectClient client(*engine);
            const unsigned char* at = client.map(path);
            for (int pass = 0; pass < 3; pass++) BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
            auto status = engine->status().value();
            BOOST_TEST(status.resident_peak_bytes <= 16 * kMiB);
            BOOST_TEST(status.counters.evictions > 0u);
        }
    }
}

BOOST_FIXTURE_TEST_CASE(many_threads_and_two_clients_share_one_copy_under_eviction, Fixture) {
    auto engine = start(24 * kMiB);
    DirectClient first(*engine), second(*engine);
    const unsigned char* maps[] = {first.map(path), second.map(path)};
    std::atomic<uint64_t> wrong = 0;
    std::vector<std::thread> readers;
    for (unsigned reader = 0; reader < 8; reader++)
        readers.emplace_back([&, reader] {
            uint64_t seed = reader + 1;
            for (int i = 0; i < 400; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                uint64_t begin = (seed >> 20) % (kFileBytes - 5000);
                wrong += wrong_bytes(maps[reader % 2], begin, begin + 5000, 31);
            }
        });
    for (auto& reader : readers) reader.join();
    BOOST_TEST(wrong == 0u);
    BOOST_TEST(engine->status().value().resident_peak_bytes <= 24 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(a_session_that_dies_leaves_the_arena_intact, Fixture) {
    auto engine = start(256 * kMiB);
    {
        BOOST_TEST(wrong_bytes(DirectClient(*engine).map(path), 0, kFileBytes, 4096) == 0u);
    }
    uint64_t read_before = engine->status().value().counters.bytes_read;
    DirectClient again(*engine);
    BOOST_TEST(wrong_bytes(again.map(path), 0, kFileBytes, 61) == 0u);
    BOOST_TEST(engine->status().value().counters.bytes_read == read_before);
}

BOOST_FIXTURE_TEST_CASE(a_file_that_changes_is_served_no_longer, Fixture) {
    auto engine = start(256 * kMiB);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, 4 * kMiB, 1024) == 0u);
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).write("changed", 7);
    auto order = [&] {
        pollfd wait{client.command_channel_fd(), POLLIN, 0};
        BOOST_REQUIRE(::poll(&wait, 1, 10'000) == 1);
        return receive_packet(client.command_channel_fd()).value().as<wire::FallBack>().value();
    }();
    BOOST_TEST((order.header.kind == wire::Kind::fall_back));
    BOOST_TEST(order.length_bytes >= kFileBytes);
    auto models = engine->models().value();
    BOOST_REQUIRE(models.size() == 1u);
    BOOST_TEST(models[0].changed);
}

BOOST_FIXTURE_TEST_CASE(the_name_of_a_file_that_changed_means_what_is_served_now, Fixture) {
    auto engine = start(256 * kMiB);
    // A session that does not hear that it is to leave keeps the old file known.
    DirectClient deaf(*engine);
    BOOST_TEST(wrong_bytes(deaf.map(path), 0, 4 * kMiB, 1024) == 0u);
    std::string next = (directory / "next").string();
    std::filesystem::copy_file(path, next);
    std::filesystem::rename(next, path);
    BOOST_TEST(comes_true([&] { return engine->models().value().front().changed; }));
    BOOST_TEST((engine->evict(path).error().code == Code::not_found));
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, 4 * kMiB, 1024) == 0u);
    auto models = engine->models().value();
    BOOST_REQUIRE(models.size() == 2u);
    BOOST_TEST(models[0].path == models[1].path);
    BOOST_TEST(engine->tensors(path).value().model.file == models[1].file);
    BOOST_TEST(engine->tensors("model.weights").value().model.file == models[1].file);
    BOOST_TEST(engine->tensors(std::to_string(models[0].file)).value().model.changed);
    BOOST_TEST(engine->evict(path).value() >= 4 * kMiB);
    // Once more by the name. What is on its way out can still be read, and is no more to be evicted.
    uint64_t evicted_bytes = 0;
    for (int i = 0; i < 5000 && evicted_bytes == 0; i++) {
        BOOST_TEST(wrong_bytes(at, 0, 4 * kMiB, 1024) == 0u);
        evicted_bytes = engine->evict("model.weights").value();
    }
    BOOST_TEST(evicted_bytes > 0u);
    BOOST_TEST(engine->pin(path).value().file == models[1].file);
}

BOOST_FIXTURE_TEST_CASE(a_smaller_budget_evicts_at_once_and_pins_are_kept, Fixture) {
    auto engine = start(256 * kMiB);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 4096) == 0u);
    BOOST_TEST(!engine->set_budget(1 * kMiB).has_value());
    BOOST_TEST(!engine->set_budget(UINT64_MAX).has_value());
    BOOST_REQUIRE(engine->set_budget(32 * kMiB).has_value());
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 4096) == 0u);
    // Evictions have begun, beside the reader; nothing can be filled until they have caught up.
    auto resident_bytes = [&] { return engine->status().value().resident_bytes; };
    for (int i = 0; i < 5000 && resident_bytes() > 32 * kMiB; i++)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    BOOST_TEST(resident_bytes() <= 32 * kMiB);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 4096) == 0u);
    BOOST_TEST(resident_bytes() <= 32 * kMiB);
    BOOST_TEST(!engine->pin("model.weights").has_value());
    BOOST_REQUIRE(engine->set_budget(128 * kMiB).has_value());
    BOOST_REQUIRE(engine->pin("model.weights").has_value());
    BOOST_TEST(engine->evict("model.weights").value() == 0u);
    BOOST_REQUIRE(engine->unpin("model.weights").has_value());
    BOOST_TEST(engine->evict("model.weights").value() > 0u);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
}

BOOST_FIXTURE_TEST_CASE(what_stays_is_mapped_by_huge_pages_and_is_evicted_all_the_same, Fixture) {
    auto engine = start(256 * kMiB, "auto", 2 * kMiB, HugePages::thp);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
    if (engine->models().value()[0].backing != "shmem thp") {
        BOOST_TEST_MESSAGE("skipped: no arena with transparent huge pages on this machine");
        return;
    }
    constexpr uint64_t kWhole = kFileBytes / (2 * kMiB) * (2 * kMiB);
    for (int round = 0; round < 3; round++) {
        BOOST_TEST(comes_true([&] { return huge_mapped_bytes(at) == kWhole; }));
        BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
        BOOST_TEST(engine->evict("model.weights").value() > 0u);
        BOOST_TEST(comes_true([&] { return engine->status().value().resident_bytes == 0u; }));
        BOOST_TEST(huge_mapped_bytes(at) == 0u);
        BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
    }
    BOOST_TEST(engine->status().value().counters.huge_mappings >= 3 * kWhole / (2 * kMiB));
}

// Huge mappings are made on another thread while extents go and come: what a reader sees stays the file's.
BOOST_FIXTURE_TEST_CASE(huge_mappings_never_show_a_half_filled_extent, Fixture) {
    auto engine = start(256 * kMiB, "auto", 2 * kMiB, HugePages::thp);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    std::atomic<bool> stop = false;
    std::atomic<uint64_t> wrong = 0;
    std::vector<std::thread> readers;
    for (uint64_t reader = 0; reader < 3; reader++)
        readers.emplace_back([&, reader] {
            for (uint64_t pass = reader; !stop; pass++) wrong += wrong_bytes(at, pass % 64, kFileBytes, 509);
        });
    for (int round = 0; round < 60; round++) {
        engine->evict("model.weights");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    stop = true;
    for (auto& reader : readers) reader.join();
    BOOST_TEST(wrong == 0u);
}

BOOST_FIXTURE_TEST_CASE(preload_reads_the_whole_model_and_says_how_far_it_is, Fixture) {
    auto engine = start(256 * kMiB);
    auto job = engine->preload(path);
    BOOST_REQUIRE_MESSAGE(job.has_value(), (job ? "" : job.error().text()));
    JobStatus status = *job;
    for (int i = 0; i < 1000 && !status.finished; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        status = engine->job(job->job).value();
    }
    BOOST_TEST(status.finished);
    BOOST_TEST(status.error == "");
    BOOST_TEST(status.done_bytes == kFileBytes);
    BOOST_TEST(engine->models().value()[0].resident_bytes == kFileBytes);
    BOOST_TEST(!engine->preload("no-such-model").has_value());
}

BOOST_FIXTURE_TEST_CASE(hugetlb_arenas_serve_right_bytes_where_pages_can_be_had, Fixture) {
    auto engine = start(32 * kMiB, "auto", 2 * kMiB, HugePages::hugetlb);
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    for (int pass = 0; pass < 2; pass++) BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
    BOOST_TEST(engine->models().value()[0].backing == "hugetlb 2m");
}

BOOST_FIXTURE_TEST_CASE(a_name_that_several_models_share_is_not_acted_on, Fixture) {
    std::filesystem::create_directories(directory / "other");
    std::string twin = (directory / "other" / "model.weights").string();
    std::filesystem::copy_file(path, twin);
    auto engine = start(256 * kMiB);
    DirectClient client(*engine);
    client.map(path);
    client.map(twin);
    auto pinned = engine->pin("model.weights");
    BOOST_REQUIRE(!pinned.has_value());
    BOOST_TEST((pinned.error().code == Code::bad_input));
    BOOST_TEST(engine->pin(twin).has_value());
}

BOOST_AUTO_TEST_CASE(impossible_settings_are_refused_with_what_to_change) {
    for (EngineConfig config :
         {EngineConfig{.budget_bytes = kMiB}, EngineConfig{.budget_bytes = kGiB, .extent_bytes = 3 * kMiB},
          EngineConfig{.budget_bytes = kGiB, .policy = "magic"}}) {
        auto engine = Engine::start(config);
        BOOST_REQUIRE(!engine.has_value());
        BOOST_TEST((engine.error().code == Code::bad_config));
        BOOST_TEST(engine.error().hint != "");
    }
}

BOOST_FIXTURE_TEST_CASE(a_recording_tells_every_miss_fill_and_eviction_of_what_was_open_already, Fixture) {
    auto engine = start(16 * kMiB, "lru");
    DirectClient client(*engine);
    const unsigned char* at = client.map(path);
    BOOST_TEST(wrong_bytes(at, 0, 8 * kMiB, 97) == 0u);
    auto before = engine->status().value().counters;
    std::string bytes = engine->start_trace(false).value().bytes;
    BOOST_TEST((engine->start_trace(false).error().code == Code::busy));
    for (int pass = 0; pass < 3; pass++) {
        BOOST_TEST(wrong_bytes(at, 0, kFileBytes, 97) == 0u);
        bytes += engine->fetch_trace().value().bytes;
    }
    auto after = engine->status().value().counters;
    TraceChunk last = engine->stop_trace().value();
    BOOST_TEST((engine->fetch_trace().error().code == Code::not_found));
    Trace trace = parse_trace(bytes + last.bytes).value();
    BOOST_TEST(trace.ended);
    BOOST_TEST(!trace.complete);
    BOOST_TEST(last.events_lost == 0u);
    BOOST_REQUIRE(trace.models.size() == 1u);
    BOOST_TEST(trace.models[0].name == "model.weights");
    BOOST_TEST(trace.models[0].uid == ::getuid());
    BOOST_TEST(trace.models[0].extent_count() == 33u);
    auto count = [&](TraceEventKind kind) {
        return static_cast<uint64_t>(std::ranges::count(trace.events, kind, &TraceEvent::kind));
    };
    // A touch of what is being read already counts as joined, and is none that was missing first.
    BOOST_TEST(count(TraceEventKind::missing) >= after.faults_missing - before.faults_missing);
    BOOST_TEST(count(TraceEventKind::evicted) >= after.evictions - before.evictions);
    BOOST_TEST(count(TraceEventKind::filled) >= 3 * 33u - 8u);
    BOOST_TEST(last.events + 2 == trace.events.size());  // and its beginning and end
}
