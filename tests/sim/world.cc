#include "tests/sim/world.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd::sim {

namespace {

World* the_world = nullptr;

constexpr std::array<NamedMutation, 15> kMutations{{
    {Mutation::read_ends_before_bytes, "read_ends_before_bytes"},
    {Mutation::short_read_said_whole, "short_read_said_whole"},
    {Mutation::change_not_seen, "change_not_seen"},
    {Mutation::wake_dropped, "wake_dropped"},
    {Mutation::continue_maps_holes, "continue_maps_holes"},
    {Mutation::punch_forgotten, "punch_forgotten"},
    {Mutation::punch_leaves_page_tables, "punch_leaves_page_tables"},
    {Mutation::job_runs_twice, "job_runs_twice"},
    {Mutation::job_lost, "job_lost"},
    {Mutation::completion_lost, "completion_lost"},
    {Mutation::move_said_done, "move_said_done"},
    {Mutation::move_not_told, "move_not_told"},
    {Mutation::order_dropped, "order_dropped"},
    {Mutation::renewed_page_is_empty, "renewed_page_is_empty"},
    {Mutation::store_says_stored, "store_says_stored"},
}};

}  // namespace

std::span<const NamedMutation> mutations() {
    return kMutations;
}

World& world() {
    return *the_world;
}

World::World(uint64_t seed_taken, std::span<const uint8_t> choices, Mutation mutation_taken,
             bool verbose_taken)
    : dice(seed_taken, choices),
      seed(seed_taken),
      is_fuzzed(!choices.empty()),
      mutation(mutation_taken),
      verbose(verbose_taken) {
    the_world = this;
}

World::~World() {
    the_world = nullptr;
}

void World::tell(const std::string& line) {
    fmt::print("{:>6} {:>12.3f} ms  {}\n", step, static_cast<double>(now_ns % 1'000'000'000'000) / 1e6, line);
}

void World::violation(const std::string& what) {
    if (is_fuzzed) {
        fmt::print(stderr, "step {}: {}\n", step, what);
        std::abort();  // the fuzzer says with which input
    }
    fmt::print("seed {} step {}: {}\nto see it: engine_simulation --seed {}{}\n", seed, step, what, seed,
               mutation == Mutation::none
                   ? ""
                   : fmt::format(" --mutation {}", kMutations[static_cast<size_t>(mutation) - 1].name));
    std::fflush(stdout);
    ::_exit(1);
}

// --- files

uint64_t World::mark(const File& file, uint64_t generation, uint64_t cell) const {
    return file.number << 48 | generation << 32 | (cell + 1);
}

// Somebody writes to the file, or cuts it short. The notice of it may get lost.
void World::change(File& file) {
    file.generation++;
    file.identity.mtime_ns++;
    file.identity.ctime_ns++;
    if (dice.chance(300))
        file.identity.size_bytes -= dice.below(std::max<uint64_t>(file.identity.size_bytes / 2, 1));
    say("{} changes: generation {}, {} bytes", file.path, file.generation, file.identity.size_bytes);
    bool told = dice.chance(800);
    for (auto& [watch, watched_file] : watches)
        if (watched_file == &file && told) watch_events.push_back(dice.chance(50) ? -1 : watch);
}

// --- memory

Memory& World::memory_at(const char* address, uint64_t& cell) {
    auto after = arenas.upper_bound(reinterpret_cast<uint64_t>(address));
    if (after == arenas.begin()) violation("an address in no arena was used");
    auto& [base, memory] = *std::prev(after);
    cell = (reinterpret_cast<uint64_t>(address) - base) / kCell;
    if (cell >= memory.cells.size()) violation("an address in no arena was used");
    return memory;
}

void World::make_present(Memory& memory, uint64_t cell, int node) {
    Cell& one = memory.cells.at(cell);
    if (one.present()) return;
    int real = node < 0 ? 0 : node;
    one.node = static_cast<int8_t>(real);
    node_bytes[real] += kCell;
}

void World::unmap_everywhere(const char* base, uint64_t cell) {
    for (auto& process : processes)
        for (Range& range : process->ranges) {
            uint64_t first = range.offset_bytes / kCell;
            if (range.arena == base && cell >= first && cell - first < range.mapped.size())
                range.mapped[cell - first] = false;
        }
}

void World::drop(Memory& memory, const char* base, uint64_t cell) {
    Cell& one = memory.cells.at(cell);
    if (one.present()) node_bytes[one.node] -= kCell;
    one = {};
    if (!mutated(Mutation::punch_leaves_page_tables)) unmap_everywhere(base, cell);
}

bool World::is_right(const Memory& memory, uint64_t cell) const {
    bool behind_end = cell * kCell >= memory.size_bytes;  // the rest of a huge page
    return memory.cells[cell].mark == (behind_end ? kNoMark : mark(*memory.file, memory.generation, cell));
}

void World::put(Memory& memory, const char* base, uint64_t cell, uint64_t marked) {
    make_present(memory, cell, preferred_node);
    if (memory.cells[cell].mark == marked) return;
    for (auto& process : processes)
        for (Range& range : process->ranges) {
            uint64_t first = range.offset_bytes / kCell;
            if (range.arena == base && cell >= first && cell - first < range.mapped.size() &&
                range.mapped[cell - first])
                violation(fmt::format("bytes that process {} sees are overwritten", process->index));
        }
    memory.cells[cell].mark = marked;
}

uint64_t World::present_bytes() const {
    uint64_t bytes = 0;
    for (auto& [node, there] : node_bytes) bytes += there;
    return bytes;
}

// Nobody may be at work in memory that is given back or taken out.
void World::check_no_reader(const char* base, uint64_t offset_bytes, uint64_t length_bytes,
                            const char* what) {
    const char *begin = base + offset_bytes, *end = begin + length_bytes;
    for (const Request& request : requests)
        if (!request.is_stat && request.submitted && request.read.into < end &&
            request.read.into + request.read.length_bytes > begin)
            violation(fmt::format("{} while the disk reads into it", what));
    for (const MoveJob& move : moves)
        if (move.begun && move.request.range.at < end &&
            move.request.range.at + move.request.range.length_bytes > begin)
            violation(fmt::format("{} while it is carried to another node", what));
}

// --- the ring

void World::progress_request(size_t index) {
    Request& request = requests[index];
    auto complete = [&](int64_t result) {
        Completion completion{request.read.tag, result};
        requests.erase(requests.begin() + static_cast<ptrdiff_t>(index));
        if (!mutated(Mutation::completion_lost) || !dice.chance(200)) completions.push_back(completion);
    };
    if (request.is_stat) {
        auto* into = static_cast<struct statx*>(request.into_stat);
        const FileIdentity& now = file_of_fd.at(request.fd)->identity;
        bool fails = request.result < 0;
        *into = {};
        into->stx_size = now.size_bytes;
        auto set = [](statx_timestamp& t, int64_t ns) {
            t.tv_sec = ns / static_cast<int64_t>(kNsPerSecond);
            t.tv_nsec = static_cast<uint32_t>(ns % static_cast<int64_t>(kNsPerSecond));
        };
        int64_t result = fails ? request.result : 0;
        set(into->stx_mtime, now.mtime_ns);
        set(into->stx_ctime, now.ctime_ns);
        if (mutated(Mutation::change_not_seen)) {
            set(into->stx_mtime, 1), set(into->stx_ctime, 1);
            into->stx_size = now.size_bytes;
        }
        return complete(result);
    }
    File& file = *registered.at(static_cast<size_t>(request.read.file)).file;
    uint64_t size = file.identity.size_bytes, offset = request.read.offset_bytes;
    uint64_t whole = std::min<uint64_t>(request.read.length_bytes, size - std::min(size, offset));
    uint64_t wanted =
        request.result > 0 ? std::min<uint64_t>(whole, static_cast<uint64_t>(request.result)) : whole;
    if (request.result < 0) wanted = whole / 2;
    uint64_t half = round_down(wanted / 2, kCell);
    uint64_t begin = request.first_half_done ? half : 0, end = request.first_half_done ? wanted : half;
    for (uint64_t at = begin; at < end; at += kCell) {
        // A page that is read in part is not that page.
        bool part = at + kCell > wanted && offset + wanted < size;
        uint64_t marked = part ? kNoMark : mark(file, file.generation, (offset + at) / kCell);
        char* into = request.read.into + at;
        auto after = arenas.upper_bound(reinterpret_cast<uint64_t>(into));
        bool in_arena =
            after != arenas.begin() && reinterpret_cast<uint64_t>(into) - std::prev(after)->first <
                                           std::prev(after)->second.cells.size() * kCell;
        if (in_arena) {
            uint64_t cell = 0;
            Memory& memory = memory_at(into, cell);
            put(memory, into - cell * kCell, cell, marked);
        } else {
            buffer_marks[reinterpret_cast<uint64_t>(into)] = marked;
        }
    }
    if (!request.first_half_done) {
        request.first_half_done = true;
        if (mutated(Mutation::read_ends_before_bytes) && request.result == 0)
            complete(static_cast<int64_t>(whole));
        return;
    }
    bool lies = mutated(Mutation::short_read_said_whole) && request.result > 0;
    complete(request.result < 0 ? request.result : static_cast<int64_t>(lies ? whole : wanted));
}

// --- processes

Range* Process::find(uint64_t address) {
    for (Range& range : ranges)
        if (address >= range.address && address < range.end()) return &range;
    return nullptr;
}

void World::wake(Process& process, uint64_t address, uint64_t length_bytes) {
    auto inside = [&](uint64_t at) { return at >= address && at - address < length_bytes; };
    for (Thread& thread : process.threads)
        if (thread.state == Thread::State::blocked && inside(thread.address))
            thread.state = Thread::State::running;
    std::erase_if(process.unread, [&](const Fault& fault) { return inside(fault.address); });
}

// --- background threads

void World::run_job(Worker* worker) {
    auto& queue = jobs.at(worker);
    auto job = std::move(queue.front());
    queue.pop_front();
    if (mutated(Mutation::job_lost) && dice.chance(200)) return;
    if (mutated(Mutation::job_runs_twice) && dice.chance(200)) job();
    job();
}

void World::progress_move(size_t index) {
    MoveJob& job = moves[index];
    if (!job.begun && !job.cancelled->load()) {
        job.begun = true;
        return;
    }
    MoveJob ended = std::move(job);
    moves.erase(moves.begin() + static_cast<ptrdiff_t>(index));
    MoveResult result{.tag = ended.request.tag, .bytes = ended.request.range.length_bytes};
    bool nodeless = ended.request.to.empty();
    if (!ended.begun || (nodeless && ended.cancelled->load()))
        result.outcome = MoveOutcome::cancelled;
    else if (nodeless || mutated(Mutation::move_said_done))
        result.outcome = MoveOutcome::moved;
    else
        result = migrate_pages(std::span(&ended.request, 1), std::span(&ended.cancelled, 1)).front();
    say("move of {} ends: {}", result.tag, static_cast<int>(result.outcome));
    if (!mutated(Mutation::move_not_told)) ended.done(result);
}

bool World::is_ready(int fd) {
    if (auto process = process_of_fd.find(fd); process != process_of_fd.end())
        return process->second->alive && !process->second->unread.empty();
    if (fd == reader_fd) return !completions.empty();
    if (fd == watch_fd) return !watch_events.empty();
    pollfd one{fd, POLLIN, 0};
    return ::poll(&one, 1, 0) > 0;
}

bool World::idle() const {
    bool busy = !requests.empty() || !completions.empty() || !moves.empty() || !watch_events.empty();
    for (auto& [worker, queue] : jobs) busy = busy || !queue.empty();
    for (auto& process : processes)
        busy = busy ||
               (process->alive &&
                (!process->unread.empty() || !process->commands.empty() || process->hung_up)) ||
               std::ranges::any_of(process->ranges,
                                   [](const Range& r) { return r.over == Range::Over::leaving; });
    return !busy;
}

}  // namespace tierd::sim
