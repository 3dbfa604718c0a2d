// The fuzzers' corpus of weight files: mutations of it are replayed by fuzz_gguf and fuzz_safetensors.
#define BOOST_TEST_MODULE model_corpus
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/map_invariants.h"

using namespace tierd;

namespace {

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
