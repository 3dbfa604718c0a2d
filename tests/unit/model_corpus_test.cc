// Replays the fuzzers' corpus, and a few thousand deterministic mutations of it, through the parsers.
#define BOOST_TEST_MODULE model_corpus
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "tests/fuzz/map_invariants.h"

using namespace tierd;

namespace {

constexpr int kMutationsOfEach = 1000;

std::vector<std::filesystem::path> corpus() {
    std::vector<std::filesystem::path> files;
    for (const char* format : {"gguf", "safetensors"}) {
        for (const auto& found :
             std::filesystem::directory_iterator(std::filesystem::path(TIERD_CORPUS) / format)) {
            files.push_back(found.path());
        }
    }
    std::ranges::sort(files);
    return files;
}

std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// What breaks parsers: flipped bits, extreme numbers, and pieces that are missing, doubled or moved.
void mutate(std::string& bytes, std::mt19937_64& random) {
    if (bytes.empty()) return;
    size_t at = random() % bytes.size();
    size_t length = 1 + random() % std::min<size_t>(16, bytes.size() - at);
    static constexpr uint64_t kExtremes[] = {0,          1,          UINT64_MAX, 1ull << 63,
                                             1ull << 32, UINT32_MAX, 0x7fff,     1ull << 40};
    switch (random() % 6) {
        case 0:
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
            break;
        case 1:
            bytes[at] = static_cast<char>(random());
            break;
        case 2:
            bytes.replace(at, std::min<size_t>(length, 8),
                          reinterpret_cast<const char*>(&kExtremes[random() % std::size(kExtremes)]),
                          std::min<size_t>(length, 8));
            break;
        case 3:
            bytes.erase(at, length);
            break;
        case 4:
            bytes.insert(at, bytes.substr(at, length));
            break;
        default:
            bytes.replace(at, length, bytes.substr(random() % bytes.size(), length));
            break;
    }
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_file_of_the_corpus_is_read_or_refused_within_the_rules) {
    auto files = corpus();
    BOOST_REQUIRE_GE(files.size(), 10u);
    size_t accepted = 0;
    for (const auto& path : files) {
        std::string bytes = content(path);
        BOOST_TEST(test::parse_and_check(bytes.data(), bytes.size(), bytes.size()) == "", path);
        accepted += parse_tensor_map(bytes.data(), bytes.size(), 1ull << 40).has_value();
    }
    // A corpus of nothing but refused files would exercise no more than the first checks.
    BOOST_TEST(accepted >= files.size() / 2);
}

BOOST_AUTO_TEST_CASE(mutations_of_the_corpus_are_read_or_refused_within_the_rules) {
    size_t accepted = 0, refused = 0;
    for (const auto& path : corpus()) {
        const std::string original = content(path);
        for (int i = 0; i < kMutationsOfEach; ++i) {
            uint64_t seed = std::mt19937_64::default_seed + static_cast<uint64_t>(i);
            std::mt19937_64 random(seed);
            std::string bytes = original;
            for (uint64_t n = 1 + random() % 4; n > 0; --n) mutate(bytes, random);
            for (uint64_t file_bytes : {uint64_t{bytes.size()}, uint64_t{1} << 40}) {
                std::string broken = test::parse_and_check(bytes.data(), bytes.size(), file_bytes);
                if (!broken.empty()) BOOST_ERROR(path << " seed " << seed << ": " << broken);
            }
            ++(parse_tensor_map(bytes.data(), bytes.size(), 1ull << 40) ? accepted : refused);
        }
    }
    std::cout << "seeds " << std::mt19937_64::default_seed << " to "
              << std::mt19937_64::default_seed + kMutationsOfEach - 1 << " on each file: " << accepted
              << " accepted, " << refused << " refused\n";
    BOOST_TEST(accepted > 0u);
    BOOST_TEST(refused > 0u);
}
