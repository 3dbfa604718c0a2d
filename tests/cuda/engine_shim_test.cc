// engine_shim_test.cc - the mini engine gives the same checksums with the preloaded library as the host computes, in every
// way that it loads and runs, however little of the GPU it is leased and whoever dies beside it. On the simulated GPU.
#define BOOST_TEST_MODULE engine_shim
#include <boost/test/unit_test.hpp>
#include <random>

#include "tests/cuda/fake_arbitrator.h"
#include "tests/cuda/program.h"

using namespace tierd::itest;

namespace {

std::string engine(const std::string& name) {
    return build_dir() + "/simcuda/" + name;
}

struct Way {
    const char* name;
    const char* program;
    Words options;
};
const std::vector<Way>& ways() {
    static const std::string ptx = engine("mini_kernels.ptx");
    static const std::vector<Way> all{
        {"pytorch", "mini_infer", {"--load", "pytorch"}},
        {"bounce-buffers", "mini_infer", {"--load", "llama"}},
        {"one-buffer", "mini_infer", {"--load", "llama-mmap"}},
        {"captured-graph", "mini_infer", {"--graph"}},
        {"stream-ordered", "mini_infer", {"--pool"}},
        {"driver-api", "mini_driver", {"--ptx", ptx}},
        {"driver-graph", "mini_driver", {"--ptx", ptx, "--graph"}},
        {"driver-pool", "mini_driver", {"--ptx", ptx, "--pool"}},
    };
    return all;
}

// Twelve layers of a chunk each, about 24 MiB on a GPU.
struct Model {
    static constexpr uint64_t kMiB = 24;
    std::string path;
    Words expected;

    explicit Model(const WorkDir& dir) : path(dir.file("model.weights")) {
        Run run = Program(dir, "reference",
                          {engine("mini_infer"), path, "--make-layers", "12", "--make-width", "600",
                           "--reference", "--repeat", "3"},
                          {}, {})
                      .wait();
        expected = checksums_of(run.output);
    }
    Words command(const Way& way, int repeat = 3) const {
        Words argv{engine(way.program), path};
        argv.insert(argv.end(), way.options.begin(), way.options.end());
        argv.insert(argv.end(), {"--repeat", std::to_string(repeat)});
        return argv;
    }
    // Every request's checksum is that of the host; the requests go round.
    void check(const Run& run, int repeat = 3) const {
        Words sums = checksums_of(run.output);
        BOOST_TEST_CONTEXT(run.output << run.log) {
            BOOST_TEST(run.fine());
            BOOST_TEST(sums.size() == static_cast<size_t>(repeat));
            for (size_t i = 0; i < std::min(sums.size(), expected.size()); i++)
                BOOST_TEST(sums[i] == expected[i]);
            for (size_t i = 0; i + 63 < sums.size(); i++) BOOST_TEST(sums[i] == sums[i + 63]);
        }
    }
};

std::string mib(uint64_t count) {
    return std::to_string(count) + "MiB";
}

struct Fixture {
    WorkDir dir;
    Model model{dir};
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(engine_shim, Fixture)

BOOST_AUTO_TEST_CASE(every_way_gives_the_hosts_checksums_without_the_library) {
    BOOST_TEST(model.expected.size() == 3u);
    for (const Way& way : ways()) model.check(Program(dir, way.name, model.command(way), {}, {}).wait());
}

BOOST_AUTO_TEST_CASE(every_way_gives_them_with_all_half_and_a_quarter_of_the_model_leased) {
    for (uint64_t share : {1, 2, 4}) {
        Daemon daemon(dir, sharing(mib(Model::kMiB / share)));
        for (const Way& way : ways()) {
            BOOST_TEST_CONTEXT(way.name << " with 1/" << share) {
                Run run =
                    Program(dir, way.name + std::to_string(share), model.command(way), {}, under(daemon))
                        .wait();
                model.check(run);
                BOOST_TEST(counted(run.log, "most chunks at once") > 0u);
            }
        }
        daemon.stop();
    }
}

BOOST_AUTO_TEST_CASE(layers_stream_through_a_quarter_of_the_model_within_the_lease) {
    Daemon daemon(dir, sharing("6MiB"));
    Run run = Program(dir, "streams", model.command(ways()[5]), {}, under(daemon)).wait();
    model.check(run);
    BOOST_TEST(counted(run.log, "dropped") > 0u);
    BOOST_TEST(counted(run.log, "most chunks at once") <= 3u, run.log);
}

BOOST_AUTO_TEST_CASE(what_comes_through_bounce_buffers_is_known_as_the_files_and_free_to_drop) {
    Daemon daemon(dir, sharing("12MiB"));
    Run run = Program(dir, "bounced", model.command(ways()[1], 6), {}, under(daemon)).wait();
    model.check(run, 6);
    // Every tensor's bytes, the embedding's and the norms' too.
    BOOST_TEST(counted(run.log, "bytes deferred") == 4u * (64 * 600 + 12 * (600 + 600 * 600)), run.log);
}

BOOST_AUTO_TEST_CASE(the_next_layer_is_read_ahead_and_only_what_ran_is_waited_for) {
    Daemon daemon(dir, sharing("8MiB"));
    Run run = Program(dir, "ahead", model.command(ways()[5], 20), {}, under(daemon)).wait();
    model.check(run, 20);
    uint64_t ahead = counted(run.log, "read ahead"), used = counted(run.log, "of them used");
    BOOST_TEST(ahead > 60u, run.log);
    BOOST_TEST(used * 10 >= ahead * 8, run.log);
    BOOST_TEST(counted(run.log, "waits for everything") * 4 < counted(run.log, "dropped"), run.log);
}

// An engine that answers requests from its standard input.
class Serving {
  public:
    Serving(const Fixture& all, const std::string& name, const Gpu& gpu, const Words& environment)
        : pipe_(make_pipe()),
          program_(all.dir, name,
                   {engine("mini_driver"), all.model.path, "--ptx", engine("mini_kernels.ptx"), "--serve"},
                   gpu, environment, pipe_.from.get()) {
        pipe_.from.reset();
    }
    // Asks for all layers; true when the answer is there.
    bool query() {
        std::string line = "0 12 1\n";
        BOOST_REQUIRE(::write(pipe_.to.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size()));
        asked_++;
        return comes_true([&] { return checksums_of(text_of(program_.output())).size() >= asked_; }, 60);
    }
    Program& program() { return program_; }
    Words sums() const { return checksums_of(text_of(program_.output())); }
    Run finish() {
        pipe_.to.reset();
        return program_.wait();
    }

  private:
    struct Pipe {
        tierd::Fd from, to;
    };
    static Pipe make_pipe() {
        int ends[2];
        BOOST_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        return {tierd::Fd(ends[0]), tierd::Fd(ends[1])};
    }
    Pipe pipe_;
    Program program_;
    size_t asked_ = 0;
};

BOOST_AUTO_TEST_CASE(an_idle_engine_gives_way_long_before_its_slice_is_over_and_comes_back) {
    Gpu gpu{.memory = "32MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("26MiB", 60000));
    Serving idle(*this, "idle", gpu, under(daemon));
    BOOST_TEST(idle.query());
    auto begin = std::chrono::steady_clock::now();
    model.check(Program(dir, "other", model.command(ways()[5]), gpu, under(daemon)).wait());
    auto took = std::chrono::steady_clock::now() - begin;
    BOOST_TEST(std::chrono::duration_cast<std::chrono::seconds>(took).count() < 50);
    BOOST_TEST(idle.query());
    Run run = idle.finish();
    BOOST_TEST(run.fine());
    BOOST_TEST(checksums_of(run.output) == (Words{model.expected[0], model.expected[0]}),
               boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_word_of_a_lease_that_crossed_its_return_is_not_taken_for_a_grant) {
    FakeArbitrator desk(dir.file("desk.sock"));
    Serving engine(*this, "crossed", {}, preloaded({"TIERD_SOCKET=" + dir.file("desk.sock")}));
    BOOST_TEST(engine.query());
    const unsigned wants = desk.wants();
    BOOST_TEST(wants > 0u);
    BOOST_TEST(desk.lease_bytes() > 0u);
    desk.ask_back_and_cross();
    BOOST_TEST(comes_true([&] { return desk.lease_bytes() == 0; }));
    BOOST_TEST(engine.query());
    BOOST_TEST(desk.wants() > wants);  // it knew that it had nothing
    BOOST_TEST(engine.finish().fine());
}

BOOST_AUTO_TEST_CASE(who_waits_for_the_gpu_and_which_extents_it_holds_can_be_seen) {
    Gpu gpu{.memory = "32MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("26MiB"));
    Serving holder(*this, "holder", gpu, under(daemon));
    BOOST_TEST(holder.query());
    auto on_gpus = [&] {
        size_t count = 0;
        for (const Json& one : listed(daemon, "models")) {
            const Json map = daemon.get("/v1/models/" + one["name"].get<std::string>() + "/heatmap");
            for (const Json& extent : map.at("extents")) count += extent.at("gpus").size();
        }
        return count;
    };
    BOOST_TEST(comes_true([&] { return on_gpus() >= 8u; }));
    holder.program().send(SIGSTOP);
    Program other(dir, "waiting", model.command(ways()[5]), gpu, under(daemon));
    BOOST_TEST(comes_true([&] {
        for (const Json& session : listed(daemon, "sessions"))
            if (session["gpu_position"] == 1 && session["gpu_requested_bytes"] > 0) return true;
        return false;
    }));
    holder.program().send(SIGCONT);
    model.check(other.wait());
    BOOST_TEST(comes_true([&] { return on_gpus() < 8u; }));  // the other took its place
    BOOST_TEST(holder.finish().fine());
}

BOOST_AUTO_TEST_CASE(one_buffer_larger_than_the_lease_runs_because_the_gpu_has_room) {
    Daemon daemon(dir, sharing("6MiB"));
    for (size_t way : {2, 6}) {  // one buffer for all weights; all layers in one graph
        Run run = Program(dir, ways()[way].name, model.command(ways()[way]), {.memory = "32MiB", .file = {}},
                          under(daemon))
                      .wait();
        model.check(run);
        BOOST_TEST(counted(run.log, "most chunks at once") > 3u, run.log);
    }
}

BOOST_AUTO_TEST_CASE(two_whose_buffers_are_each_larger_than_the_lease_take_turns_on_a_gpu_that_holds_one) {
    Gpu gpu{.memory = "32MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("6MiB"));
    std::vector<std::unique_ptr<Program>> programs;
    for (const char* name : {"a", "b"})
        programs.push_back(
            std::make_unique<Program>(dir, name, model.command(ways()[2], 20), gpu, under(daemon)));
    for (auto& program : programs) model.check(program->wait(), 20);
    BOOST_TEST(comes_true([&] { return daemon.get("/v1/tiers")["tiers"].back()["used_bytes"] == 0; }));
}

BOOST_AUTO_TEST_CASE(two_and_eight_processes_share_a_gpu_that_holds_a_quarter_of_them) {
    for (uint64_t count : {2, 8}) {
        Gpu gpu{.memory = count == 2 ? "28MiB" : "52MiB", .file = dir.file("gpu" + std::to_string(count))};
        Daemon daemon(dir, sharing(mib(count * 6)));
        std::vector<std::unique_ptr<Program>> programs;
        for (uint64_t i = 0; i < count; i++) {
            const Way& way = ways()[count == 2 || i % 2 == 0 ? 5 : 7];  // what needs no more than its lease
            programs.push_back(std::make_unique<Program>(dir, std::to_string(count) + "-" + std::to_string(i),
                                                         model.command(way, 6), gpu, under(daemon)));
        }
        uint64_t most_leased = 0;
        for (auto& program : programs) {
            for (const Json& tier : listed(daemon, "tiers"))
                if (tier["kind"] == "gpu") most_leased = std::max<uint64_t>(most_leased, tier["used_bytes"]);
            model.check(program->wait(), 6);
        }
        BOOST_TEST(most_leased <= count * 6 << 20);
        daemon.stop();
    }
}

// Eight at once, with memory for all of them, for half and for a quarter. Three are killed, tierd between the first two.
BOOST_AUTO_TEST_CASE(engines_and_tierd_that_are_killed_at_random_change_no_byte_of_the_others) {
    constexpr int kEngines = 8, kKilled = 3, kRepeat = 12;
    for (unsigned share : {1, 2, 4}) {
        BOOST_TEST_MESSAGE("1/" << share << ": seed " << share);
        std::mt19937 random(share);
        std::string name = "killed-" + std::to_string(share);
        Gpu gpu{.memory = mib(kEngines * Model::kMiB / share + 16), .file = dir.file("gpu-" + name)};
        Daemon daemon(dir, sharing(mib(kEngines * Model::kMiB / share)));
        std::vector<std::unique_ptr<Program>> programs;
        for (int i = 0; i < kEngines; i++)
            programs.push_back(std::make_unique<Program>(dir, name + "-" + std::to_string(i),
                                                         model.command(ways()[i % 2 == 0 ? 5 : 0], kRepeat),
                                                         gpu, under(daemon)));
        for (int i = 0; i < kKilled; i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50 + random() % 300));
            if (i == 1) daemon.send(SIGKILL);
            programs[static_cast<size_t>(i)]->kill();
        }
        for (size_t i = 0; i < programs.size(); i++) {
            Run run = programs[i]->wait();
            bool killed = WIFSIGNALED(run.status) && WTERMSIG(run.status) == SIGKILL;
            if (i >= kKilled) BOOST_TEST(!killed);
            if (!killed) model.check(run, kRepeat);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_gpu_that_is_too_small_is_told_as_cuda_tells_it) {
    Gpu gpu{.memory = "16MiB", .file = {}};  // no room for the one buffer
    Daemon daemon(dir, sharing("8MiB"));
    Run plain = Program(dir, "plain", model.command(ways()[2]), gpu, {}).wait();
    Run ours = Program(dir, "ours", model.command(ways()[2]), gpu, under(daemon)).wait();
    BOOST_TEST(WEXITSTATUS(plain.status) == 2);  // cudaErrorMemoryAllocation
    BOOST_TEST(ours.status == plain.status, ours.output << ours.log);
}

BOOST_AUTO_TEST_SUITE_END()
