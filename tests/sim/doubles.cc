// doubles.cc - the kernel's edges of lib/, on the simulated world: this program links them in the place of the files that they
// are named after, so the engine runs as it is, without the kernel.
//
// Invariant: every function has the promise of the header that it stands for; what that header calls an error happens here
//            with the seed's probability.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/arena/arena.h"
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/worker.h"
#include "lib/engine/inotify.h"
#include "lib/engine/readiness.h"
#include "lib/engine/run_delay.h"
#include "lib/fault/client_memory.h"
#include "lib/fault/userfaultfd.h"
#include "lib/io/bounce_buffers.h"
#include "lib/io/origin.h"
#include "lib/migrate/migrator.h"
#include "lib/migrate/node_memory.h"
#include "lib/session/packet.h"
#include "tests/sim/world.h"

namespace tierd {

using sim::Cell;
using sim::kCell;
using sim::Memory;
using sim::Mutation;
using sim::world;
using sim::World;

namespace {

constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint64_t kReadingNs = 150;  // what a reading of the clock costs, so that time never stands

std::unexpected<Error> error_of(int err, const char* what) {
    return std::unexpected(Error{Code::kernel_refused, err, what, {}, {}});
}

ino_t inode_of(int fd) {
    struct stat st{};
    ::fstat(fd, &st);
    return st.st_ino;
}

// Address space that must not be touched: what the world knows of memory, it knows by address.
Mapping reserve_addresses(uint64_t length_bytes, uint64_t align) {
    void* at =
        ::mmap(nullptr, length_bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t begin = reinterpret_cast<uint64_t>(at), aligned = round_up(begin, align);
    if (aligned > begin) ::munmap(at, aligned - begin);
    uint64_t tail = begin + align - aligned;
    if (tail > 0) ::munmap(reinterpret_cast<void*>(aligned + length_bytes), tail);
    return Mapping(reinterpret_cast<void*>(aligned), length_bytes);
}

}  // namespace

// --- lib/base/clock.cc

uint64_t monotonic_ns() noexcept {
    World& w = world();
    if (w.stall_in_calls > 0 && --w.stall_in_calls == 0) w.now_ns += w.stall_ns;
    return w.now_ns += kReadingNs;
}
uint64_t realtime_ns() noexcept {
    return world().now_ns;
}
uint64_t thread_cpu_ns() noexcept {
    return world().now_ns / 8;
}

// --- lib/base/worker.cc

void name_this_thread(const std::string&) {}
Worker::Worker(const std::string&) {
    world().jobs[this];
}
Worker::~Worker() {
    while (!world().jobs.at(this).empty()) world().run_job(this);
    world().jobs.erase(this);
}
void Worker::post(std::function<void()> job) {
    world().jobs.at(this).push_back(std::move(job));
}

// --- lib/engine/readiness.cc

Result<Readiness> Readiness::make() {
    return Readiness(Fd());
}
Result<void> Readiness::add(int fd, uint64_t what) {
    world().watched[fd] = what;
    return {};
}
void Readiness::remove(int fd) {
    world().watched.erase(fd);
}
// Some of what is ready, in any order: the rest became so a moment later.
std::span<const uint64_t> Readiness::wait(int timeout_ms) {
    World& w = world();
    std::vector<uint64_t> ready;
    for (auto& [fd, what] : w.watched)
        if (w.is_ready(fd)) ready.push_back(what);
    if (ready.empty()) {
        if (timeout_ms > 0) w.now_ns += w.dice.below(static_cast<uint64_t>(timeout_ms) + 1) * kNsPerMs;
        return {};
    }
    size_t told = 0;
    while (!ready.empty() && told < ready_.size()) {
        size_t index = w.dice.below(ready.size());
        ready_[told++] = ready[index];
        ready.erase(ready.begin() + static_cast<ptrdiff_t>(index));
        if (w.dice.chance(150)) break;
    }
    return std::span(ready_).first(told);
}

// --- lib/engine/inotify.cc

Result<FileWatch> FileWatch::make() {
    Fd fd(::eventfd(0, EFD_CLOEXEC));
    world().watch_fd = fd.get();
    return FileWatch(std::move(fd));
}
int FileWatch::add(int fd) {
    World& w = world();
    if (w.dice.chance(100)) return -1;
    w.watches[w.next_watch] = w.file_of_fd.at(fd);
    return w.next_watch++;
}
void FileWatch::remove(int watch) {
    world().watches.erase(watch);
}
std::vector<int> FileWatch::read() {
    auto& events = world().watch_events;
    std::vector<int> told(events.begin(), events.end());
    events.clear();
    return told;
}

// --- lib/io/origin.cc

bool Origin::unchanged() const {
    World& w = world();
    return w.mutated(Mutation::change_not_seen) || w.file_of_fd.at(fd.get())->identity == identity;
}
void Origin::leave_direct() {
    world().file_of_fd.at(fd.get())->direct = false;
    direct = false;
}
void Origin::drop_cache(uint64_t, uint64_t) const {}

// --- lib/io/bounce_buffers.cc

Result<BounceBuffers> BounceBuffers::make(uint64_t buffer_bytes) {
    Mapping mapping = reserve_addresses(kBounceBuffers * buffer_bytes, buffer_bytes);
    std::vector<char*> free;
    for (uint32_t i = kBounceBuffers; i > 0; i--) free.push_back(mapping.data() + (i - 1) * buffer_bytes);
    return BounceBuffers(std::move(mapping), std::move(free));
}
char* BounceBuffers::take() {
    if (free_.empty()) return nullptr;
    world().buffers_taken++;
    char* buffer = free_.back();
    free_.pop_back();
    return buffer;
}
void BounceBuffers::give_back(char* buffer) {
    if (std::ranges::find(free_, buffer) != free_.end()) world().violation("a buffer is given back twice");
    world().buffers_taken--;
    free_.push_back(buffer);
}

// --- lib/arena/arena.cc

const char* backing_name(Backing) noexcept {
    return "simulated";
}
// `writable` carries nothing: the world is told of the arena by whoever makes it.
Result<Arena> Arena::adopt(Fd writable, Fd readonly, uint64_t length_bytes, Backing backing,
                           bool makes_folios) {
    return Arena(std::move(writable), std::move(readonly), reserve_addresses(length_bytes, kHugePage),
                 backing, makes_folios);
}
uint64_t Arena::page_bytes() const {
    return backing_ == Backing::hugetlb ? kHugePage : kCell;
}
std::string Arena::name() const {
    return "simulated";
}
void Arena::want_huge_pages(uint64_t, uint64_t) const {}
Result<void> Arena::reserve(uint64_t offset_bytes, uint64_t length_bytes) const {
    if (backing_ != Backing::hugetlb) return {};
    World& w = world();
    if (w.hugetlb_free < length_bytes) return fail(Code::no_space, "take a huge page");
    w.hugetlb_free -= length_bytes;
    Memory& memory = w.memory_of(*this);
    for (uint64_t at = 0; at < length_bytes; at += kCell)
        w.make_present(memory, (offset_bytes + at) / kCell, w.preferred_node);
    return {};
}
void Arena::populate(uint64_t offset_bytes, uint64_t length_bytes) const {
    World& w = world();
    Memory& memory = w.memory_of(*this);
    for (uint64_t at = 0; at < length_bytes; at += kCell)
        w.make_present(memory, (offset_bytes + at) / kCell, w.preferred_node);
}
void Arena::populate_folios(uint64_t offset_bytes, uint64_t length_bytes) const {
    populate(offset_bytes, length_bytes);
}
Result<void> Arena::store(uint64_t offset_bytes, const char* from, uint64_t length_bytes) const {
    World& w = world();
    Memory& memory = w.memory_of(*this);
    bool fails = w.dice.chance(w.weather.memory_errors);
    uint64_t stored = fails ? w.dice.below(length_bytes) : length_bytes;
    if (w.mutated(Mutation::store_says_stored) && w.dice.chance(100)) return {};
    for (uint64_t at = 0; at < stored; at += kCell) {
        bool part = at + kCell > stored && stored != length_bytes;
        uint64_t mark = part ? sim::kNoMark : w.buffer_marks[reinterpret_cast<uint64_t>(from) + at];
        w.put(memory, this->at(0), (offset_bytes + at) / kCell, mark);
    }
    if (fails) return w.dice.chance(500) ? error_of(ENOMEM, "store") : error_of(0, "store");
    return {};
}
Result<void> Arena::release(uint64_t offset_bytes, uint64_t length_bytes) const {
    World& w = world();
    w.check_no_reader(at(0), offset_bytes, length_bytes, "memory is given back");
    if (w.mutated(Mutation::punch_forgotten)) return {};
    Memory& memory = w.memory_of(*this);
    for (uint64_t at = 0; at < length_bytes; at += kCell) {
        if (backing_ == Backing::hugetlb && memory.cells[(offset_bytes + at) / kCell].present())
            w.hugetlb_free += kCell;
        w.drop(memory, this->at(0), (offset_bytes + at) / kCell);
    }
    return {};
}
Result<void> Arena::rearm_page(uint64_t offset_bytes) const {
    World& w = world();
    w.check_no_reader(at(0), offset_bytes, kCell, "a page is taken out");
    Memory& memory = w.memory_of(*this);
    uint64_t cell = offset_bytes / kCell, mark = memory.cells[cell].mark;
    if (!memory.cells[cell].present()) return fail(Code::gone, "rearm arena page");
    w.drop(memory, at(0), cell);
    if (w.dice.chance(w.weather.memory_errors)) return error_of(ENOMEM, "rearm arena page");
    w.put(memory, at(0), cell, w.mutated(Mutation::renewed_page_is_empty) ? sim::kNoMark : mark);
    return {};
}
uint64_t Arena::allocated_bytes() const {
    return 0;
}

// --- lib/fault/userfaultfd.cc, lib/fault/client_memory.cc

// The descriptor, or a copy of it, is known by its inode.
Result<Userfaultfd> Userfaultfd::adopt(Fd fd) {
    World& w = world();
    for (auto& process : w.processes)
        if (process->inode == inode_of(fd.get())) {
            w.process_of_fd[fd.get()] = process.get();
            return Userfaultfd(std::move(fd));
        }
    return fail(Code::bad_input, "take the client's userfaultfd");
}
std::span<Fault> Userfaultfd::read(std::span<Fault> into) {
    auto& unread = world().process_of_fd.at(fd_.get())->unread;
    size_t count = std::min(into.size(), unread.size());
    for (size_t i = 0; i < count; i++) {
        into[i] = unread.front();
        unread.pop_front();
    }
    return into.first(count);
}
Mapped Userfaultfd::continue_range(uint64_t address, uint64_t length_bytes, uint64_t) {
    World& w = world();
    sim::Process& process = *w.process_of_fd.at(fd_.get());
    sim::Range* range = process.find(address);
    bool registered = process.alive && range != nullptr && range->over != sim::Range::Over::file &&
                      range->end() - address >= length_bytes;
    if (!registered || w.dice.chance(w.weather.continue_fails)) return Mapped::gone;
    if (range->over == sim::Range::Over::leaving)
        w.violation(fmt::format("a page is mapped in process {} while that range goes back to the file",
                                process.index));
    Memory& memory = w.arenas.at(reinterpret_cast<uint64_t>(range->arena));
    for (uint64_t at = address; at < address + length_bytes; at += kCell) {
        uint64_t in_range = (at - range->address) / kCell, cell = range->offset_bytes / kCell + in_range;
        if (!memory.cells.at(cell).present()) {
            if (!w.mutated(Mutation::continue_maps_holes)) return Mapped::not_filled;
            w.make_present(memory, cell, -1);
        }
        if (!w.is_right(memory, cell))
            w.violation(fmt::format("process {} is shown wrong bytes of {} at page {}: generation {}, {:#x}",
                                    process.index, memory.file->path, cell, memory.generation,
                                    memory.cells[cell].mark));
        range->mapped[in_range] = true;
    }
    if (!w.mutated(Mutation::wake_dropped) || !w.dice.chance(50)) w.wake(process, address, length_bytes);
    return Mapped::done;
}
Mapped Userfaultfd::continue_page(uint64_t address) {
    return continue_range(address / kCell * kCell, kCell, address);
}
void Userfaultfd::wake(uint64_t address, uint64_t length_bytes) {
    World& w = world();
    w.wake(*w.process_of_fd.at(fd_.get()), address, length_bytes);
}

Result<ClientMemory> ClientMemory::of(pid_t pid) {
    if (world().dice.chance(50)) return error_of(EPERM, "open client process");
    for (auto& process : world().processes)
        if (process->pid == pid && process->alive) {
            Fd fd(::eventfd(0, EFD_CLOEXEC));
            world().process_of_pidfd[fd.get()] = process.get();
            return ClientMemory(std::move(fd));
        }
    return error_of(ESRCH, "open client process");
}
// Maps what stands in the arena, and makes what does not.
Result<void> ClientMemory::map_huge(uint64_t address, uint64_t length_bytes) const {
    World& w = world();
    sim::Process& process = *w.process_of_pidfd.at(process_.get());
    if (!process.alive) return error_of(ESRCH, "map huge pages");
    if (w.dice.chance(100)) return error_of(w.dice.chance(500) ? EAGAIN : EINVAL, "map huge pages");
    for (uint64_t at = address; at < address + length_bytes; at += kCell) {
        sim::Range* range = process.find(at);
        if (range == nullptr) return error_of(ENOMEM, "map huge pages");
        if (range->over == sim::Range::Over::file) continue;
        Memory& memory = w.arenas.at(reinterpret_cast<uint64_t>(range->arena));
        uint64_t in_range = (at - range->address) / kCell, cell = range->offset_bytes / kCell + in_range;
        if (!w.is_right(memory, cell))
            w.violation(fmt::format("a huge page shows process {} wrong bytes of {} at page {}",
                                    process.index, memory.file->path, cell));
        range->mapped[in_range] = true;
    }
    return {};
}

// --- lib/session/packet.cc

Result<void> send_packet(int socket, std::span<const std::byte> message, std::span<const int>) {
    World& w = world();
    sim::Process& process = *w.process_of_fd.at(socket);
    if (!process.alive || process.hung_up) return fail(Code::gone, "send message");
    constexpr size_t kQueue = 32;
    if (process.commands.size() >= kQueue) return fail(Code::busy, "send message");
    wire::FallBack order{};
    std::memcpy(&order, message.data(), std::min(message.size(), sizeof order));
    if (!w.mutated(Mutation::order_dropped)) process.commands.push_back(order);
    return {};
}
void hang_up(int socket) {
    world().process_of_fd.at(socket)->hung_up = true;
}

// --- lib/migrate/migrator.cc, lib/migrate/node_memory.cc

Migrator::Migrator(Done done, uint64_t bytes_per_s)
    : done_(std::move(done)), throttle_(bytes_per_s), limit_(bytes_per_s) {}
Migrator::~Migrator() {
    while (!world().moves.empty()) {
        world().moves.front().cancelled->store(true);
        world().progress_move(0);
    }
}
void Migrator::move(MoveRequest request) {
    world().moves.push_back({.request = std::move(request), .done = done_});
}
void Migrator::cancel(uint64_t tag) {
    for (auto& move : world().moves)
        if (move.request.tag == tag) move.cancelled->store(true);
}
void Migrator::set_limit(uint64_t) {}
void Migrator::reader_waited(WaitKind, uint64_t) {}
MigrationThrottle Migrator::throttle() {
    return throttle_;
}

uint64_t PagesByNode::bytes_off(std::span<const int> nodes) const {
    uint64_t bytes = 0;
    for (auto& [node, there] : bytes_on)
        if (std::ranges::find(nodes, node) == nodes.end()) bytes += there;
    return bytes;
}
std::optional<uint64_t> mapped_page_bytes(const PageRange& range) {
    return world().dice.chance(500) ? std::optional(range.page_bytes) : std::nullopt;
}
Result<void> find_nodes(const PageRange& range, std::span<int> nodes) {
    for (size_t i = 0; i < range.pages(); i++) {
        uint64_t cell = 0;
        Memory& memory = world().memory_at(range.at + i * range.page_bytes, cell);
        nodes[i] = memory.cells[cell].present() ? memory.cells[cell].node : -ENOENT;
    }
    return {};
}
Result<PagesByNode> find_pages(const PageRange& range) {
    std::vector<int> nodes(range.pages());
    if (auto found = find_nodes(range, nodes); !found) return std::unexpected(found.error());
    PagesByNode placement;
    for (int node : nodes) (node < 0 ? placement.absent_bytes : placement.bytes_on[node]) += range.page_bytes;
    return placement;
}
Result<void> map_pages(const PageRange& range) {
    for (size_t i = 0; i < range.pages(); i++) {
        uint64_t cell = 0;
        if (!world().memory_at(range.at + i * range.page_bytes, cell).cells[cell].present())
            return std::unexpected(Error{Code::gone, ENOENT, "map pages", {}, {}});
    }
    return {};
}
Result<void> move_pages_to(std::span<void*> pages, std::span<const int> nodes, std::span<int> status) {
    World& w = world();
    if (w.dice.chance(w.weather.move_errors))
        return error_of(w.dice.chance(500) ? ENOMEM : EACCES, "move pages");
    bool stuck = w.dice.chance(w.weather.move_errors);
    for (size_t i = 0; i < pages.size(); i++) {
        uint64_t first = 0;
        Memory& memory = w.memory_at(static_cast<char*>(pages[i]), first);
        // A huge page goes as a whole.
        uint64_t cells = memory.backing == Backing::hugetlb ? kHugePage / kCell : 1;
        bool busy = stuck && w.dice.chance(300);
        for (uint64_t cell = first; cell < first + cells; cell++) {
            Cell& one = memory.cells[cell];
            status[i] = nodes[i];
            if (!one.present()) status[i] = -ENOENT;
            if (busy) status[i] = -EBUSY;
            if (status[i] < 0) continue;
            w.node_bytes[one.node] -= kCell;
            one.node = -1;
            w.make_present(memory, cell, nodes[i]);
        }
    }
    return {};
}
PreferNode::PreferNode(int node) noexcept {
    if (node < 0) return;
    set_ = true;
    world().preferred_node = node;
}
PreferNode::~PreferNode() {
    if (set_) world().preferred_node = -1;
}

// run_delay.cc: a simulated thread is never kept from its processor.
uint64_t RunDelay::step_ns() {
    return 0;
}

}  // namespace tierd
