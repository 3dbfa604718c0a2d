// moves_bench.cc - what moves between memory nodes cost those who read meanwhile, and how long a tier takes to be drained: the
// daemon, the preloaded library and a reader in the guest. Lines of JSON.
//
// Owns:      its processes and files.
// Fails:     by an exception, which ends it with a message.
#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <functional>
#include <thread>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/guest/two_tiers.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 5;
constexpr uint64_t kFileMib = 96;
constexpr int kPairs = 21;
constexpr unsigned kSliceMs = 3000;

// Two tiers that each have room for the whole file, and next to nothing in the third.
std::string config_of(const std::string& more) {
    return fmt::format(R"(
[session]
deadline_ms = 60000
[tiers]
{}
{})",
                       more, guest::two_tiers(kFileMib + 16, kFileMib + 16));
}

struct Scene {
    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon;
    ReaderProcess reader;

    explicit Scene(const std::string& tiers)
        : daemon((make_file(path, kSeed, kFileMib * kMiB), dir),
                 {.budget = "16MiB", .options = {"--policy", "lru"}, .config = config_of(tiers)}),
          reader(dir, {.socket = daemon.socket()}) {
        reader.call("map path=" + path);
        reader.call(fmt::format("verify seed={}", kSeed));
    }

    // Sends all that is in the tier elsewhere and opens it again. Returns the bytes that were in it. With `stop`, looks seldom, so
    // as not to be what readers are slowed down by, and breaks off when it becomes true.
    uint64_t empty(const std::string& name, const std::atomic<bool>* stop = nullptr) const {
        Json job = ask("POST", "/v1/tiers/" + name + "/drain");
        const std::string resource = fmt::format("/v1/jobs/{}", job.at("job").get<uint64_t>());
        while (!job.at("finished").get<bool>()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(stop != nullptr ? 100 : 2));
            if (stop != nullptr && *stop) daemon.ask("DELETE", resource);
            job = ask("GET", resource);
        }
        const std::string again = fmt::format(R"({{"name":"{}"}})", name);
        // Open already where the drain was broken off in time.
        stop != nullptr && *stop ? (void)daemon.ask("POST", "/v1/tiers", again)
                                 : (void)ask("POST", "/v1/tiers", again);
        return job.at("total_bytes");
    }
    Json ask(const std::string& method, const std::string& what, const std::string& body = {}) const {
        auto reply = daemon.ask(method, what, body);
        if (reply.status >= 300) throw std::runtime_error(method + " " + what + ": " + reply.body.dump());
        return reply.body;
    }
    // Bytes that the reader reads in a second.
    double read_bytes_per_s() {
        reader.call(fmt::format("verify seed={} until=stop threads=1", kSeed));
        uint64_t begun_ns = monotonic_ns();
        std::this_thread::sleep_for(std::chrono::milliseconds(kSliceMs));
        Json told = reader.call("stop");
        if (!all_right(told)) throw std::runtime_error("wrong bytes: " + told.dump());
        return told.at("bytes").get<double>() * 1e9 / static_cast<double>(monotonic_ns() - begun_ns);
    }
};

// While it lives, what is in the one tier goes to the other, and back.
class Traffic {
  public:
    explicit Traffic(const Scene& scene)
        : thread_([this, &scene] {
              try {
                  for (bool hbm = true; !stop_; hbm = !hbm) scene.empty(hbm ? "hbm1" : "cxl2", &stop_);
              } catch (...) {
                  failure_ = std::current_exception();
              }
          }) {}
    void end() {
        stop_ = true;
        thread_.join();
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    std::atomic<bool> stop_{false};
    std::exception_ptr failure_;
    std::thread thread_;
};

// Asks tierd as often as Traffic does, and moves nothing: what asking costs is not the moves'.
double read_still(Scene& scene) {
    std::jthread asking([&scene](std::stop_token stop) {
        while (!stop.stop_requested()) {
            scene.daemon.ask("GET", "/v1/tiers");
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    });
    return scene.read_bytes_per_s();
}

void measure_readers() {
    Scene scene("");
    scene.read_bytes_per_s();
    for (int pair = 0; pair < kPairs; pair++) {
        double still = read_still(scene);
        uint64_t before = scene.daemon.counter("bytes_moved"), begun_ns = monotonic_ns();
        Traffic traffic(scene);
        double moving = scene.read_bytes_per_s();
        uint64_t moved = scene.daemon.counter("bytes_moved") - before;
        double seconds = static_cast<double>(monotonic_ns() - begun_ns) / 1e9;
        traffic.end();
        Json moves = scene.daemon.status().at("moves");
        fmt::print("{}\n", Json{{"what", "reader"},
                                {"still", still},
                                {"moving", moving},
                                {"moved_per_s", static_cast<double>(moved) / seconds},
                                {"pace", moves.at("rate_bytes_per_s")},
                                {"seen_slowdown", moves.at("reader_slowdown")}}
                               .dump());
    }
}

void measure_drains() {
    Scene scene("migrate_limit = \"0\"");
    for (int run = 0; run < 6; run++) {
        uint64_t begun_ns = monotonic_ns();
        uint64_t bytes = scene.empty(run % 2 == 0 ? "hbm1" : "cxl2");
        fmt::print("{}\n",
                   Json{{"what", "drain"}, {"bytes", bytes}, {"ns", monotonic_ns() - begun_ns}}.dump());
    }
}

}  // namespace

int main() {
    try {
        measure_readers();
        measure_drains();
    } catch (const std::exception& e) {
        fmt::print("{}\n", e.what());
        return 1;
    }
    return 0;
}
