// A mixture of experts, whose file is cut around the experts' slices: right bytes within the budget, and hardly
// more read than was touched.
#define BOOST_TEST_MODULE mixture
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <fstream>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 23;
constexpr uint64_t kHeaderBytes = 64 * kKiB;
constexpr uint64_t kSliceBytes = 1088 * kKiB + 96;  // seldom begins at a page
constexpr uint32_t kLayers = 4;
constexpr uint64_t kDenseBytes = 5 * kMiB + 64;  // of a layer

// A safetensors header over the pattern, so that every other byte can be judged.
struct Mixture {
    explicit Mixture(uint32_t experts = 24,
                     const std::vector<std::string>& parts = {"gate_proj", "up_proj", "down_proj"}) {
        Json header;
        uint64_t at = 0;
        auto add = [&](const std::string& name, uint64_t tensor_bytes) {
            header[name] = {
                {"dtype", "I8"}, {"shape", {tensor_bytes}}, {"data_offsets", {at, at + tensor_bytes}}};
            at += tensor_bytes;
        };
        for (uint32_t layer = 0; layer < kLayers; layer++) {
            const std::string block = "model.layers." + std::to_string(layer) + ".";
            add(block + "self_attn.q_proj.weight", kDenseBytes);
            for (uint32_t expert = 0; expert < experts; expert++)
                for (const std::string& part : parts)
                    add(block + "mlp.experts." + std::to_string(expert) + "." + part + ".weight",
                        kSliceBytes);
        }
        bytes = kHeaderBytes + at;
        make_file(path(), kSeed, bytes);
        std::string text = header.dump();
        text.resize(kHeaderBytes - 8, ' ');
        const uint64_t length = text.size();
        std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
        file.write(reinterpret_cast<const char*>(&length), sizeof length);
        file.write(text.data(), static_cast<std::streamsize>(text.size()));
    }
    std::string path() const { return dir.file("mixture.safetensors"); }
    WorkDir dir;
    uint64_t bytes = 0;
};

struct Scene : Mixture {
    Json read(const Daemon& daemon, const std::string& flags, const std::vector<std::string>& ways) {
        ReaderProcess reader(dir, {.socket = daemon.socket()});
        reader.call("map path=" + path() + " " + flags);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        for (const std::string& way : ways) {
            const Json told = reader.call("verify seed=" + std::to_string(kSeed) + " " + way);
            BOOST_TEST(all_right(told), way + ": " + told.dump());
        }
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        return daemon.status();
    }
    std::string from_header() const { return "from=" + std::to_string(kHeaderBytes); }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(every_byte_is_right_where_all_fits, Scene) {
    drop_cache(path());
    Daemon daemon(dir, {.budget = "1GiB"});
    const Json status = read(daemon, "", {from_header(), from_header() + " order=random threads=4"});
    BOOST_TEST(status["counters"]["bytes_read"].get<uint64_t>() <= round_up(bytes, 2 * kMiB));
}

BOOST_FIXTURE_TEST_CASE(every_byte_is_right_while_slices_come_and_go_and_the_budget_holds, Scene) {
    // In folios or, without huge pages, in small pages.
    for (auto [policy, huge_pages] :
         {std::pair{"auto", "thp"}, {"lru", "thp"}, {"sweep", "thp"}, {"auto", "off"}}) {
        drop_cache(path());
        Daemon daemon(dir, {.budget = "96MiB", .options = {"--policy", policy, "--huge-pages", huge_pages}});
        ArenaSampler sampler(daemon.pid());
        const Json status = read(daemon, "",
                                 {from_header() + " threads=4",
                                  from_header() + " order=random block=65536 threads=8 length=134217728",
                                  from_header() + " order=stride block=1048576 threads=8"});
        sampler.stop();
        BOOST_TEST(sampler.peak_bytes() <= 96 * kMiB);
        BOOST_TEST(sampler.peak_bytes() > 0u);
        BOOST_TEST(status["counters"]["evictions"].get<uint64_t>() > 0u);
        if (policy == std::string("auto"))
            BOOST_TEST(status["counters"]["extents_watched"].get<uint64_t>() > 0u);
    }
}

BOOST_FIXTURE_TEST_CASE(a_touched_slice_brings_its_expert_and_nothing_else, Scene) {
    drop_cache(path());
    Daemon daemon(dir, {.budget = "96MiB"});
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path());
    const uint64_t experts = kHeaderBytes + kDenseBytes;
    uint64_t read_bytes = 0;
    for (uint32_t expert : {3u, 17u, 9u}) {
        const uint64_t middle =
            round_down(experts + (expert * 3 + 1) * kSliceBytes + kSliceBytes / 2, 4 * kKiB);
        const Json told = reader.call("verify seed=" + std::to_string(kSeed) +
                                      " length=4096 from=" + std::to_string(middle));
        BOOST_TEST(all_right(told), told.dump());
        const uint64_t least = 3 * kSliceBytes - 6 * 4 * kKiB, most = 3 * kSliceBytes + 6 * 4 * kKiB;
        BOOST_TEST(comes_true([&] { return daemon.counter("bytes_read") >= read_bytes + least; }));
        const uint64_t now_bytes = daemon.counter("bytes_read");
        BOOST_TEST(now_bytes - read_bytes <= most);
        read_bytes = now_bytes;
    }
}

BOOST_AUTO_TEST_CASE(an_expert_larger_than_memory_is_not_read_round_and_round) {
    std::vector<std::string> parts;
    for (int part = 0; part < 24; part++) parts.push_back("part" + std::to_string(part));
    Mixture mixture(1, parts);
    for (const char* policy : {"auto", "lru", "sweep"}) {
        drop_cache(mixture.path());
        Daemon daemon(mixture.dir, {.budget = "16MiB", .options = {"--policy", policy}});
        ReaderProcess reader(mixture.dir, {.socket = daemon.socket()});
        reader.call("map path=" + mixture.path());
        const Json told =
            reader.call("verify seed=" + std::to_string(kSeed) + " length=4096 from=" +
                        std::to_string(kHeaderBytes + round_up(kDenseBytes + kSliceBytes / 2, 4 * kKiB)));
        BOOST_TEST(all_right(told), told.dump());
        // Each part of it at most once for one touch, and then there is rest.
        uint64_t read_bytes = 0;
        BOOST_TEST(comes_true([&] {
            const uint64_t before_bytes = std::exchange(read_bytes, daemon.counter("bytes_read"));
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            return read_bytes > 0 && read_bytes == before_bytes;
        }));
        BOOST_TEST(read_bytes <= round_up(mixture.bytes, 2 * kMiB), policy);
    }
}

BOOST_FIXTURE_TEST_CASE(own_writes_among_slices_survive_eviction_and_the_death_of_tierd, Scene) {
    drop_cache(path());
    Daemon daemon(dir, {.budget = "96MiB"});
    ReaderProcess writer(dir, {.socket = daemon.socket()});
    writer.call("map path=" + path() + " offset=" + std::to_string(kHeaderBytes) + " prot=rw");
    BOOST_TEST(is_all(writer.call("backing"), "arena"));
    const std::string seed = " seed=" + std::to_string(kSeed);
    BOOST_TEST(writer.call("write threads=4 steps=500" + seed)["wrong"] == 0u);
    BOOST_TEST(writer.call("verify-writes" + seed)["wrong"] == 0u);
    BOOST_TEST(daemon.counter("evictions") > 0u);
    daemon.send(SIGKILL);
    const Json told = writer.call("verify-writes" + seed);
    BOOST_TEST(told["wrong"] == 0u, told.dump());
    BOOST_TEST(told["written_pages"].get<uint64_t>() > 0u);
}
