#include "tests/chaos/reading.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <csignal>
#include <ctime>
#include <deque>
#include <stdexcept>

#include "lib/base/clock.h"

namespace tierd::chaos {
namespace {

using itest::Json;

constexpr unsigned kPatienceS =
    120;  // a reader that is silent for so long waits for a wake-up that never comes

constexpr size_t kHistory = 30;

// As tierd's log has it.
std::string clock_time() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm broken{};
    ::localtime_r(&now.tv_sec, &broken);
    return fmt::format("{:02}:{:02}:{:02}.{:03}", broken.tm_hour, broken.tm_min, broken.tm_sec,
                       now.tv_nsec / 1'000'000);
}

void pause_ms(uint64_t ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// A mapping of the running process.
struct Mapped {
    std::shared_ptr<Model> model;
    uint64_t number = 0;
    bool writable = false;
    bool written = false;
    bool served = false;  // by tierd, when it was made
    bool moved = false;   // by mremap: the old number is dead
};

// One process's life.
class Engine {
  public:
    Engine(const itest::WorkDir& dir, const std::string& socket, Library& library, Tally& tally, Dice& dice)
        : library_(library),
          tally_(tally),
          dice_(dice),
          socket_(socket),
          process_(dir,
                   {.socket = dice() % 8 == 0 ? "" : socket, .user = dice() % 4 == 0 ? itest::kNobody : 0}) {
        tally_.readers++;
    }

    void live(const std::atomic<bool>& end) {
        uint64_t steps = between(dice_, 3, 40);
        for (uint64_t step = 0; step < steps && !end; step++) {
            if (maps_.empty() || dice_() % 5 == 0)
                map();
            else
                use(maps_[dice_() % maps_.size()]);
            pause_ms(between(dice_, 0, 120));
        }
        if (end || dice_() % 3 != 0) {
            if (int status = process_.finish(); status != 0)
                throw std::runtime_error(fmt::format("a reader ended with status {:#x}", status));
            return;
        }
        // Killed in the middle of its work, as the object goes.
        if (!maps_.empty()) send(verify_line(maps_.back()));
        pause_ms(between(dice_, 0, 20));
        tally_.readers_killed++;
    }

  private:
    void map() {
        std::shared_lock<std::shared_timed_mutex> name;
        auto model = library_.pick(dice_, name);
        if (!model || maps_.size() >= 8) return;
        bool writable = !model->changes && dice_() % 3 == 0;
        const Json told = call(fmt::format("map path={} prot={}", model->path, writable ? "rw" : "r"));
        if (told.at("result") != 0) throw std::runtime_error("a mapping was refused: " + told.dump());
        Mapped mapped{.model = model, .number = told.at("map"), .writable = writable};
        const Json runs = call(fmt::format("backing map={}", mapped.number)).at("runs");
        mapped.served = !runs.empty() && runs[0].at("what") == "arena";
        (mapped.served ? tally_.maps_served : tally_.maps_by_kernel)++;
        if (mapped.served && fell_back()) tally_.reattached++;
        maps_.push_back(std::move(mapped));
    }

    // Whether a mapping that tierd served is on the kernel's by now. Each is counted once.
    bool fell_back() {
        for (Mapped& mapped : maps_) {
            if (!mapped.served || mapped.moved || mapped.writable) continue;
            const Json runs = call(fmt::format("backing map={}", mapped.number)).at("runs");
            if (runs.size() != 1 || runs[0].at("what") != "file") continue;
            mapped.served = false;
            return true;
        }
        return false;
    }

    void use(Mapped& mapped) {
        std::shared_lock bytes(mapped.model->mutex);
        switch (dice_() % 10) {
            case 0:
                return fork(mapped);
            case 1:
                return spawn();
            case 2:
                return advise(mapped);
            case 3:
                return remap(mapped);
            case 4:
                return stop_meanwhile(mapped);
            default:
                return mapped.writable ? write(mapped) : verify(mapped);
        }
    }

    std::string seeds(const Mapped& mapped) const {
        const Model& model = *mapped.model;
        std::string line = fmt::format(" map={} seed={}", mapped.number, model.seed);
        if (model.old_seed != 0) line += fmt::format(" other_seed={}", model.old_seed);
        return line;
    }
    std::string verify_line(const Mapped& mapped) {
        if (mapped.written) return "verify-writes" + seeds(mapped);
        constexpr const char* kOrders[] = {"sequential", "random", "stride"};
        return fmt::format("verify{} order={} block={} threads={}", seeds(mapped), kOrders[dice_() % 3],
                           4096u << between(dice_, 0, 6), between(dice_, 1, 3));
    }

    void verify(const Mapped& mapped) {
        const uint64_t begin_ns = monotonic_ns();
        judge(mapped, call(verify_line(mapped)), begin_ns);
    }

    void write(Mapped& mapped) {
        mapped.written = true;
        judge(
            mapped,
            call(fmt::format("write{} steps={} threads=2 stride=2", seeds(mapped), between(dice_, 50, 500))),
            monotonic_ns());
        verify(mapped);
    }

    void fork(const Mapped& mapped) {
        tally_.forks++;
        const uint64_t begin_ns = monotonic_ns();
        const Json told = call((mapped.written ? "fork-verify-writes" : "fork-verify") + seeds(mapped));
        judge(mapped, told, begin_ns);
        if (told.at("child_status") != 0) wrong("a forked child", mapped, told);
    }

    void spawn() {
        std::shared_lock<std::shared_timed_mutex> name;
        auto model = library_.pick(dice_, name);
        if (!model || model->changes) return;
        tally_.forks++;
        const char* how = dice_() % 2 ? "spawn-verify" : "vfork-verify";
        const Json told = call(fmt::format("{} path={} seed={}", how, model->path, model->seed));
        if (told.at("child_status") != 0)
            tally_.fail(fmt::format("{} of {}: {}", how, model->path, told.dump()));
        if (told.at("child_status") != 0) tally_.wrong_bytes++;
    }

    void advise(const Mapped& mapped) {
        constexpr const char* kAdvice[] = {"willneed", "random", "sequential", "cold", "pageout", "dontneed"};
        // What the process wrote would be dropped, as it should be.
        const char* advice = kAdvice[dice_() % (mapped.written ? 3 : 6)];
        call(fmt::format("madvise map={} advice={}", mapped.number, advice));
        verify(mapped);
    }

    void remap(Mapped& mapped) {
        if (mapped.written || mapped.writable) return verify(mapped);
        const Json told = call(fmt::format("mremap map={} fixed=1", mapped.number));
        if (told.at("result") != 0) throw std::runtime_error("mremap was refused: " + told.dump());
        mapped.number = told.at("map");
        mapped.moved = true;
        verify(mapped);
    }

    // Stopped for a while: tierd and the others must not wait for it.
    void stop_meanwhile(const Mapped& mapped) {
        const uint64_t begin_ns = monotonic_ns();
        send(verify_line(mapped));
        pause_ms(between(dice_, 0, 5));
        ::kill(process_.pid(), SIGSTOP);
        pause_ms(between(dice_, 1, 800));
        ::kill(process_.pid(), SIGCONT);
        tally_.readers_stopped++;
        Json told = receive();
        told["stall_ms"] = 0.0;  // it was we who stalled it
        judge(mapped, told, begin_ns);
    }

    void judge(const Mapped& mapped, const Json& told, uint64_t begin_ns) {
        tally_.bytes_verified += told.at("bytes").get<uint64_t>();
        tally_.wrong_bytes += told.at("wrong").get<uint64_t>();
        tally_.sigbus += told.at("sigbus").get<uint64_t>();
        tally_.stall(told.at("stall_ms"));
        if (!itest::all_right(told)) wrong("a reader", mapped, told);
        if (told.at("other") == 0u || !mapped.model->settled(begin_ns)) return;
        tally_.stale_reads++;
        wrong("old bytes: a reader", mapped, told);
    }

    void wrong(const char* who, const Mapped& mapped, const Json& told) {
        tally_.fail(fmt::format("{} of {} (map {}, seed {}, old seed {}, {}): {}; its last commands:\n{}",
                                who, mapped.model->path, mapped.number, mapped.model->seed,
                                mapped.model->old_seed, mapped.writable ? "writable" : "read-only",
                                told.dump(), fmt::join(history_, "\n")));
    }

    Json call(const std::string& line) {
        send(line);
        return receive();
    }
    void send(const std::string& line) {
        if (history_.size() == kHistory) history_.pop_front();
        history_.push_back(fmt::format("  {} {}", clock_time(), line));
        process_.send(line);
    }
    Json receive() { return process_.receive(kPatienceS); }

    Library& library_;
    Tally& tally_;
    Dice& dice_;
    const std::string& socket_;
    itest::ReaderProcess process_;
    std::vector<Mapped> maps_;
    std::deque<std::string> history_;  // the last commands, for the report of a failure
};

}  // namespace

void keep_reading(const itest::WorkDir& dir, const std::string& socket, Library& library, Tally& tally,
                  const std::atomic<bool>& end, uint64_t seed) {
    Dice dice(seed);
    while (!end) {
        try {
            Engine(dir, socket, library, tally, dice).live(end);
        } catch (const std::exception& trouble) {
            // Silence, death or a call that the kernel's mapping would not have refused.
            tally.lost_wakeups += std::string(trouble.what()).find("does not answer") != std::string::npos;
            tally.fail(trouble.what());
        }
    }
}

}  // namespace tierd::chaos
