// Hints in a whole engine: what is touched often is found to be hot, and nobody ever reads a wrong byte for it.
#define BOOST_TEST_MODULE hints
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <thread>

#include "tests/integration/direct_client.h"
#include "tests/unit/fake_control.h"

namespace tierd::test {

namespace {

constexpr uint64_t kExtent = 64 * kKiB;
constexpr uint32_t kExtents = 48;

std::unique_ptr<Engine> start(const std::string& source, uint64_t budget_bytes) {
    EngineConfig config{.budget_bytes = budget_bytes, .extent_bytes = kExtent, .epoch_ms = 10};
    config.sample_source = source;
    auto engine = Engine::start(config);
    BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
    return std::move(*engine);
}

std::string write_pattern_file(const TempFolder& folder) {
    std::string path = folder.file("weights.gguf");
    std::vector<unsigned char> bytes(kExtents * kExtent);
    for (size_t at = 0; at < bytes.size(); at++)
        bytes[at] = static_cast<unsigned char>(at / 4096 * 7 + at % 251);
    auto fd = open_file(path, O_WRONLY | O_CREAT, 0600);
    BOOST_REQUIRE(fd.has_value());
    BOOST_REQUIRE(::write(fd->get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return path;
}

bool right(const unsigned char* weights, size_t at) {
    return weights[at] == static_cast<unsigned char>(at / 4096 * 7 + at % 251);
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_read_often_becomes_hot_with_many_samples_and_right_bytes) {
    TempFolder folder;
    auto engine = start("hint", 2 * kExtents * kExtent);
    std::string path = write_pattern_file(folder);
    DirectClient client(*engine);
    const unsigned char* weights = client.map(path);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0};
    std::thread reader([&] {
        // Extent 5 is read whole a hundred times as often as any other.
        for (uint64_t round = 0; !stop; round++) {
            uint32_t extent = round % 100 != 0 ? 5 : static_cast<uint32_t>(round / 100 % kExtents);
            for (size_t at = extent * kExtent; at < (extent + 1) * kExtent; at += 7)
                wrong += !right(weights, at);
        }
    });
    HeatmapStatus map;
    while (true) {
        auto read = engine->heatmap(path);
        BOOST_REQUIRE(read.has_value());
        map = *read;
        uint64_t least = UINT64_MAX;
        for (auto& extent : map.extents) least = std::min(least, extent.samples);
        if (least >= 3 && map.extents[5].samples >= 20) break;
        std::this_thread::yield();
    }
    stop = true;
    reader.join();
    BOOST_TEST(wrong == 0u);
    for (uint32_t extent = 0; extent < kExtents; extent++)
        if (extent != 5) BOOST_TEST(map.extents[extent].heat < map.extents[5].heat);
    auto rows = engine->hot("extent");
    BOOST_REQUIRE(rows.has_value());
    BOOST_TEST(rows->front().name == "extent 5");
    auto sources = engine->sources();
    BOOST_REQUIRE(sources.has_value());
    for (auto& source : *sources) BOOST_TEST(source.used == (source.name == "hint"));
    BOOST_TEST(engine->status()->counters.hints_touched > 0u);
    BOOST_TEST((engine->hot("nonsense").error().code == Code::bad_input));
}

BOOST_AUTO_TEST_CASE(without_a_source_nothing_is_hinted) {
    TempFolder folder;
    auto engine = start("off", 2 * kExtents * kExtent);
    std::string path = write_pattern_file(folder);
    DirectClient client(*engine);
    const unsigned char* weights = client.map(path);
    for (size_t at = 0; at < kExtents * kExtent; at += 4096) BOOST_REQUIRE(right(weights, at));
    for (int i = 0; i < 100; i++) (void)engine->status();
    BOOST_TEST(engine->status()->counters.hints == 0u);
    auto sources = engine->sources();
    for (auto& source : *sources) BOOST_TEST(!source.unavailable_reason.empty());
}

// A budget of half the file: evictions, fills and hints of the same extents, all the time.
BOOST_AUTO_TEST_CASE(hints_and_evictions_of_the_same_extents_never_show_a_wrong_byte) {
    TempFolder folder;
    auto engine = start("hint", kExtents * kExtent / 2);
    std::string path = write_pattern_file(folder);
    DirectClient client(*engine);
    const unsigned char* weights = client.map(path);
    uint64_t wrong = 0, state = 1;
    for (int touch = 0; touch < 30'000; touch++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        // Most touches go to a third of the file, so that some of it is read without a miss.
        uint64_t extent = (state >> 40) % (touch % 50 == 0 ? kExtents : kExtents / 3);
        wrong += !right(weights, extent * kExtent + (state >> 20) % kExtent);
    }
    BOOST_TEST(wrong == 0u);
    auto status = engine->status();
    BOOST_TEST(status->resident_peak_bytes <= status->budget_bytes);
}

}  // namespace tierd::test
