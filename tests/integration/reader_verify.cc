// reader_verify.cc - reading a mapping and writing into a private one, every byte judged. See reader.h.
#include <csetjmp>
#include <csignal>
#include <iostream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "lib/base/clock.h"
#include "tests/integration/pattern.h"
#include "tests/integration/reader.h"

namespace tierd::itest {
namespace {

// The handler has nowhere else to find the place to return to; each thread has its own.
thread_local sigjmp_buf* return_to = nullptr;

void on_sigbus(int number) {
    if (return_to) siglongjmp(*return_to, 1);
    std::signal(number, SIG_DFL);
    std::raise(number);
}

constexpr uint64_t kNowhere = UINT64_MAX;

struct Tally {
    uint64_t bytes = 0;
    uint64_t wrong = 0;
    uint64_t first_wrong = kNowhere;  // offset in the file
    uint64_t other = 0;
    uint64_t sigbus = 0;
    uint64_t first_sigbus = kNowhere;
    uint64_t stall_ns = 0;
    uint64_t passes = 0;

    void add(const Tally& t) {
        bytes += t.bytes;
        wrong += t.wrong;
        first_wrong = std::min(first_wrong, t.first_wrong);
        other += t.other;
        sigbus += t.sigbus;
        first_sigbus = std::min(first_sigbus, t.first_sigbus);
        stall_ns = std::max(stall_ns, t.stall_ns);
        passes += t.passes;
    }
    Json json() const {
        Json out{{"bytes", bytes},   {"wrong", wrong},   {"other", other},
                 {"sigbus", sigbus}, {"passes", passes}, {"stall_ms", double(stall_ns) / 1e6}};
        if (wrong) out["first_wrong"] = first_wrong;
        if (sigbus) out["first_sigbus"] = first_sigbus;
        return out;
    }
};

// What a page should hold, and how to judge it. One for each command; threads share it.
struct Judge {
    const MappedFile* map;
    uint64_t seed;
    uint64_t other_seed;  // 0: none
    uint64_t file_bytes;

    struct Touch {
        const Judge* judge;
        uint64_t at;  // in the mapping
        Tally* tally;
    };

    // Bytes of the page that are the file's; what follows is zero.
    uint64_t file_part(uint64_t offset) const {
        return offset >= file_bytes ? 0 : std::min(kPageBytes, file_bytes - offset);
    }

    uint64_t wrong_bytes(uint64_t which_seed, uint64_t at, uint64_t from) const {
        const uint64_t offset = map->offset_bytes + at;
        const char* page = map->address + at;
        const uint64_t part = file_part(offset);
        uint64_t wrong = from < part ? count_wrong(which_seed, offset + from, page + from, part - from) : 0;
        for (uint64_t i = part; i < kPageBytes; ++i) wrong += page[i] != 0;
        return part == 0 ? kPageBytes : wrong;  // a page behind the end must not be readable at all
    }

    static void touch(void* argument) {
        auto* t = static_cast<Touch*>(argument);
        uint64_t wrong = t->judge->wrong_bytes(t->judge->seed, t->at, 0);
        if (wrong && t->judge->other_seed && t->judge->wrong_bytes(t->judge->other_seed, t->at, 0) == 0) {
            wrong = 0;
            ++t->tally->other;
        }
        t->tally->wrong += wrong;
        if (wrong)
            t->tally->first_wrong = std::min(t->tally->first_wrong, t->judge->map->offset_bytes + t->at);
    }

    void page(uint64_t at, Tally& tally) const {
        Touch t{this, at, &tally};
        const uint64_t begin = monotonic_ns();
        if (!guarded(touch, &t)) {
            ++tally.sigbus;
            tally.first_sigbus = std::min(tally.first_sigbus, map->offset_bytes + at);
        }
        tally.stall_ns = std::max(tally.stall_ns, monotonic_ns() - begin);
        tally.bytes += kPageBytes;
    }
};

// The order in which blocks are read: a permutation of 0 … count-1.
std::vector<uint32_t> block_order(const std::string& name, uint64_t count, uint64_t pass) {
    std::vector<uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0u);
    if (name == "random") {
        std::mt19937_64 dice(pass + count);
        std::shuffle(order.begin(), order.end(), dice);
    } else if (name == "stride") {
        uint64_t step = 61;  // blocks; far enough that neighbours are read at different times
        while (std::gcd(step, count) != 1) ++step;
        for (uint64_t i = 0; i < count; ++i) order[i] = uint32_t(i * step % count);
    } else if (name != "sequential") {
        throw std::runtime_error("order=" + name + " is not sequential, random or stride");
    }
    return order;
}

struct Range {
    uint64_t from = 0;
    uint64_t length = 0;
};

Range range_of(const MappedFile& map, const Command& command) {
    Range range;
    range.from = command.number("from", 0);
    if (range.from > map.length_bytes) throw std::runtime_error("from= lies behind the mapping");
    range.length = command.number("length", map.length_bytes - range.from);
    if (range.length > map.length_bytes - range.from) throw std::runtime_error("length= is too long");
    return range;
}

// Says that all threads run, then waits for the line "stop" and tells them.
void wait_for_stop(Reader& reader, unsigned threads) {
    while (reader.begun < threads) std::this_thread::yield();
    std::cout << R"({"started":true})" << std::endl;
    std::string line;
    std::getline(std::cin, line);
    reader.stop = true;
}

// Runs `work(thread)` in `threads` threads and adds up what they found.
template <class Work>
Tally in_threads(Reader& reader, unsigned threads, bool until_stop, Work work) {
    reader.stop = false;
    reader.begun = 0;
    std::vector<Tally> tallies(threads);
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads; ++t) running.emplace_back([&, t] { tallies[t] = work(t); });
    if (until_stop) wait_for_stop(reader, threads);
    Tally sum;
    for (std::thread& thread : running) thread.join();
    for (const Tally& tally : tallies) sum.add(tally);
    return sum;
}

// One thread's share of the passes: threads take blocks of a pass in turn.
Tally read_passes(Reader& reader, const Judge& judge, Range range, const Command& command,
                  std::vector<std::atomic<uint64_t>>& next) {
    const uint64_t block = command.number("block", kPageBytes);
    const uint64_t blocks = (range.length + block - 1) / block;
    const std::string order_name = command.text("order", "sequential");
    Tally tally;
    for (uint64_t pass = 0; pass < next.size() && !reader.stop; ++pass) {
        const auto order = block_order(order_name, blocks, pass);
        for (uint64_t i; (i = next[pass].fetch_add(1)) < blocks && !reader.stop;) {
            const uint64_t begin = order[i] * block;
            const uint64_t end = std::min(begin + block, range.length);
            const bool first = tally.bytes == 0;
            for (uint64_t at = begin; at < end; at += kPageBytes) judge.page(range.from + at, tally);
            if (first) ++reader.begun;
        }
        ++tally.passes;
    }
    return tally;
}

// A page that this process wrote `generation` times holds that generation's words in its first half; the
// second half stays the file's, so that a lost copy of the rest would show as well.
constexpr uint64_t kWrittenBytes = kPageBytes / 2;
uint64_t written_seed(uint32_t generation) {
    return 0x5eed'0000u + generation;
}

uint64_t wrong_in_written(const Judge& judge, uint64_t at, uint32_t generation) {
    if (generation == 0) return judge.wrong_bytes(judge.seed, at, 0);
    return count_wrong(written_seed(generation), at, judge.map->address + at, kWrittenBytes) +
           judge.wrong_bytes(judge.seed, at, kWrittenBytes);
}

// How pages are shared out among writing threads: of each `stride` pages, thread t writes the t-th alone.
struct Shares {
    unsigned threads;
    uint64_t stride;
    uint64_t steps;  // of each thread
};

Tally write_private_pages(Reader& reader, MappedFile& map, const Judge& judge, unsigned thread,
                          Shares shares) {
    std::mt19937_64 dice(thread);
    const uint64_t own = map.generations.size() / shares.stride;
    Tally tally;
    for (uint64_t step = 0; step < shares.steps && !reader.stop; ++step) {
        const uint64_t page = dice() % own * shares.stride + thread;
        const uint64_t at = page * kPageBytes;
        const uint64_t begin = monotonic_ns();
        const uint64_t wrong = wrong_in_written(judge, at, map.generations[page]);
        fill_pattern(written_seed(++map.generations[page]), at, map.address + at, kWrittenBytes);
        tally.stall_ns = std::max(tally.stall_ns, monotonic_ns() - begin);
        tally.wrong += wrong;
        if (wrong) tally.first_wrong = std::min(tally.first_wrong, map.offset_bytes + at);
        tally.bytes += kPageBytes;
        if (step == 0) ++reader.begun;
    }
    return tally;
}

Judge judge_of(const MappedFile& map, const Command& command) {
    return Judge{&map, command.number("seed"), command.number("other_seed", 0),
                 command.number("file_bytes", map.file_bytes)};
}

}  // namespace

void install_sigbus_handler() {
    struct sigaction action = {};
    action.sa_handler = on_sigbus;
    action.sa_flags = SA_NODEFER;  // the handler leaves by a jump, so nothing would unblock the signal
    sigaction(SIGBUS, &action, nullptr);
}

bool guarded(void (*touch)(void*), void* argument) {
    sigjmp_buf here;
    if (sigsetjmp(here, 0) != 0) {
        return_to = nullptr;
        return false;
    }
    return_to = &here;
    touch(argument);
    return_to = nullptr;
    return true;
}

Json verify(Reader& reader, const Command& command) {
    const MappedFile& map = reader.map_of(command);
    const Judge judge = judge_of(map, command);
    const Range range = range_of(map, command);
    const bool until_stop = command.text("until", "end") == "stop";
    const uint64_t most_passes = 1 << 20;
    std::vector<std::atomic<uint64_t>> next(until_stop ? most_passes : command.number("passes", 1));
    const Tally sum = in_threads(reader, unsigned(command.number("threads", 1)), until_stop,
                                 [&](unsigned) { return read_passes(reader, judge, range, command, next); });
    return sum.json();
}

Json write_pages(Reader& reader, const Command& command) {
    MappedFile& map = reader.map_of(command);
    if (map.generations.empty()) map.generations.resize(map.length_bytes / kPageBytes);
    const Judge judge = judge_of(map, command);
    const auto threads = unsigned(command.number("threads", 1));
    const bool until_stop = command.text("until", "end") == "stop";
    const Shares shares{threads, command.number("stride", threads),
                        until_stop ? UINT64_MAX : command.number("steps")};
    if (shares.stride < threads) throw std::runtime_error("stride= is less than threads=");
    const Tally sum = in_threads(reader, threads, until_stop, [&](unsigned t) {
        return write_private_pages(reader, map, judge, t, shares);
    });
    return sum.json();
}

Json verify_writes(Reader& reader, const Command& command) {
    const MappedFile& map = reader.map_of(command);
    const Judge judge = judge_of(map, command);
    Tally tally;
    uint64_t written = 0;
    for (uint64_t page = 0; page < map.generations.size(); ++page) {
        const uint64_t wrong = wrong_in_written(judge, page * kPageBytes, map.generations[page]);
        tally.wrong += wrong;
        if (wrong) tally.first_wrong = std::min(tally.first_wrong, map.offset_bytes + page * kPageBytes);
        tally.bytes += kPageBytes;
        written += map.generations[page] != 0;
    }
    Json out = tally.json();
    out["written_pages"] = written;
    return out;
}

}  // namespace tierd::itest
