// replay_main.cc - runs a fuzz target without a fuzzer: each file of its corpus, and mutations of it from fixed seeds.
//
// Owns:      main() of every fuzz target in an ordinary build.
// Fails:     as the target does: it aborts, with the file and the seed in the last lines.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/fuzz/mutate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void run(const std::string& bytes) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s CORPUS MUTATIONS_OF_EACH\n", argv[0]);
        return 2;
    }
    uint64_t mutations = std::strtoull(argv[2], nullptr, 10);
    std::vector<std::filesystem::path> files;
    for (const auto& found : std::filesystem::directory_iterator(argv[1])) files.push_back(found.path());
    std::ranges::sort(files);
    uint64_t runs = 0;
    for (const auto& path : files) {
        std::ifstream in(path, std::ios::binary);
        const std::string original{std::istreambuf_iterator<char>(in), {}};
        std::printf("%s, as it is and from seeds 1 to %llu\n", path.filename().c_str(),
                    static_cast<unsigned long long>(mutations));
        std::fflush(stdout);
        run(original);
        for (uint64_t seed = 1; seed <= mutations; seed++) {
            std::mt19937_64 random(seed);
            std::string bytes = original;
            for (uint64_t n = 1 + random() % 4; n > 0; n--) tierd::test::mutate(bytes, random);
            run(bytes);
        }
        runs += 1 + mutations;
    }
    std::printf("%llu inputs of %zu files\n", static_cast<unsigned long long>(runs), files.size());
    return runs == 0 ? 1 : 0;
}
