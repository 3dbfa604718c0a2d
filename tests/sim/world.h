// world.h - the simulated machine that lib/engine runs on: its clock, disk, memory, page tables and background threads, and
// what must hold on it.
//
// Owns:      all state outside the engine, and the reference that each of its effects is compared with.
// Invariant: a number identifies each byte: its file, the file's generation and the offset. A session's page table shows an
//            arena's cells, and each of them holds bytes of the generation that was attached.
// Callers:   one thread. doubles.cc implements the kernel's calls on it; session.cc and scenario.cc drive it.
// Fails:     violation() prints what broke and how to run it again, and ends the process.
#pragma once

#include <sys/types.h>

#include <fmt/format.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/arena/arena.h"
#include "lib/engine/mailbox.h"
#include "lib/fault/userfaultfd.h"
#include "lib/io/reader.h"
#include "lib/migrate/migrator.h"
#include "lib/model/file_identity.h"
#include "lib/session/wire.h"
#include "tests/sim/dice.h"

namespace tierd {
class Worker;
}

namespace tierd::sim {

inline constexpr uint64_t kCell = 4096;  // what the world knows of memory, it knows by pages
inline constexpr uint64_t kNoMark = 0;   // a fresh page: zeros

// Mistakes that the world can be made to make, or to hide, so that it can be shown that runs find them.
enum class Mutation : uint8_t {
    none,
    read_ends_before_bytes,    // a completion before its bytes are there
    short_read_said_whole,     // part of the bytes, and the result says all
    change_not_seen,           // the identity check says "unchanged" whatever happened
    wake_dropped,              // CONTINUE maps and does not wake
    continue_maps_holes,       // CONTINUE shows a zero page where there is none
    punch_forgotten,           // a release that releases nothing
    punch_leaves_page_tables,  // a release that sessions keep seeing through
    job_runs_twice,            // an eviction carried out, and told, two times
    job_lost,                  // an eviction that never ends
    completion_lost,           // a read that never ends
    move_said_done,            // "moved", and the pages stand where they stood
    move_not_told,             // a move whose end nobody hears of
    order_dropped,             // an order to fall back that the session never gets
    renewed_page_is_empty,     // a page put back without its bytes
    store_says_stored,         // a store into the arena that stored nothing
};
struct NamedMutation {
    Mutation mutation;
    const char* name;
};
std::span<const NamedMutation> mutations();

struct Weather {
    uint32_t read_errors = 0;  // of 1000
    uint32_t slow_reads = 0;
    uint32_t memory_errors = 0;  // stores and renewed pages that fail
    uint32_t move_errors = 0;
    uint32_t ring_full = 0;
    uint32_t continue_fails = 0;
};

struct File {
    uint64_t number = 0;
    std::string path;
    uint64_t generation = 1;
    FileIdentity identity;
    bool local_disk = true;
    bool direct = true;  // takes O_DIRECT
};

struct Cell {
    uint64_t mark = kNoMark;
    int8_t node = -1;  // where its page stands; -1: there is none
    bool present() const { return node >= 0; }
};

struct Memory {  // of one arena
    File* file = nullptr;
    uint64_t generation = 0;  // that it was made for
    uint64_t size_bytes = 0;  // of the file then
    Backing backing = Backing::shmem_small;
    std::vector<Cell> cells;
};

// A range of a session's addresses.
struct Range {
    enum class Over : uint8_t { arena, leaving, file };
    uint64_t address = 0;
    uint64_t length_bytes = 0;
    uint64_t offset_bytes = 0;
    char* arena = nullptr;     // its base address in tierd
    uint64_t served_file = 0;  // tierd's number for it
    Over over = Over::arena;
    bool told = false;         // tierd knows of it
    std::vector<bool> mapped;  // page table: a cell each
    uint64_t end() const { return address + length_bytes; }
};

struct Thread {
    enum class State : uint8_t { running, blocked };
    State state = State::running;
    uint64_t address = 0;  // that it touches
    uint64_t since_ns = 0;
    uint64_t next_offset = 0;  // of a sweep
};

// What a session's process is to the kernel.
struct Process {
    uint64_t index = 0;
    pid_t pid = 0;
    ino_t inode = 0;  // of its userfaultfd
    bool alive = true;
    std::vector<Range> ranges;
    std::vector<Thread> threads;
    std::deque<Fault> unread;             // of its userfaultfd
    std::deque<wire::FallBack> commands;  // in its command channel
    bool hung_up = false;                 // tierd ended the channel
    bool reads_orders = true;

    Range* find(uint64_t address);
};

// A read or a look at attributes, between the ring's two ends.
struct Request {
    ReadRequest read;
    bool is_stat = false;
    void* into_stat = nullptr;
    int fd = -1;
    bool submitted = false;
    bool first_half_done = false;
    uint64_t ready_ns = 0;
    int64_t result = 0;  // decided when it begins; 0: all of it
};

struct MoveJob {
    MoveRequest request;
    std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
    bool begun = false;
    Migrator::Done done;
};

class World {
  public:
    World(uint64_t seed, std::span<const uint8_t> choices, Mutation mutation, bool verbose);
    ~World();

    Dice dice;
    const uint64_t seed;
    const bool is_fuzzed;  // choices came from a fuzzer
    const Mutation mutation;
    const bool verbose;
    Weather weather;
    uint64_t step = 0;

    // --- time
    uint64_t now_ns = 1'000'000'000'000;
    uint64_t stall_in_calls =
        0;  // readings of the clock until this thread stands still for stall_ns; 0: never
    uint64_t stall_ns = 0;

    // --- files and their changes
    std::vector<std::unique_ptr<File>> files;
    std::unordered_map<int, File*> file_of_fd;
    std::unordered_map<int, uint64_t> arena_of_fd;
    std::map<int, File*> watches;
    std::deque<int> watch_events;
    int next_watch = 1;
    uint64_t mark(const File& file, uint64_t generation, uint64_t cell) const;
    void change(File& file);

    // --- the ring
    struct Registered {
        File* file = nullptr;
        uint64_t arena = 0;  // that it is read into
    };
    std::vector<Registered> registered;  // by the reader's number
    std::deque<Request> requests;
    std::deque<Completion> completions;
    void progress_request(size_t index);

    // --- memory
    std::map<uint64_t, Memory> arenas;  // by base address
    std::unordered_map<uint64_t, uint64_t> buffer_marks;
    uint32_t buffers_taken = 0;
    std::map<int, uint64_t> node_bytes;
    bool placement_is_ours =
        true;  // false: the kernel moved pages by itself, and nodes can't be held to their capacity
    uint64_t hugetlb_free = UINT64_MAX;
    int preferred_node = -1;
    Memory& memory_at(const char* address, uint64_t& cell);
    Memory& memory_of(const Arena& arena) { return arenas.at(reinterpret_cast<uint64_t>(arena.at(0))); }
    void make_present(Memory& memory, uint64_t cell, int node);
    void drop(Memory& memory, const char* base, uint64_t cell);
    void put(Memory& memory, const char* base, uint64_t cell, uint64_t mark);
    uint64_t present_bytes() const;
    bool is_right(const Memory& memory, uint64_t cell) const;
    void unmap_everywhere(const char* base, uint64_t cell);

    // --- processes
    std::vector<std::unique_ptr<Process>> processes;
    std::unordered_map<int, Process*> process_of_fd;  // userfaultfds and command channels
    std::unordered_map<int, Process*> process_of_pidfd;
    void wake(Process& process, uint64_t address, uint64_t length_bytes);

    // --- background threads
    std::map<Worker*, std::deque<std::function<void()>>> jobs;
    std::deque<MoveJob> moves;
    void run_job(Worker* worker);
    void progress_move(size_t index);
    void check_no_reader(const char* base, uint64_t offset_bytes, uint64_t length_bytes, const char* what);

    // --- what the engine's thread waits for
    std::map<int, uint64_t> watched;
    int reader_fd = -1, watch_fd = -1;
    bool is_ready(int fd);

    // Nothing is under way anywhere: only time can bring something new.
    bool idle() const;

    [[noreturn]] void violation(const std::string& what);
    template <class... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        if (verbose) tell(fmt::format(format, std::forward<Args>(args)...));
    }
    void tell(const std::string& line);
    bool mutated(Mutation m) { return mutation == m; }
};

// The one that doubles.cc stands for: they have the signatures of what they replace, with nowhere to pass it.
World& world();

}  // namespace tierd::sim
