#include "tests/sim/session.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd::sim {

using Over = Range::Over;

Session::Session(World& world, Desk& desk, Process& process)
    : world_(world),
      desk_(desk),
      process_(process),
      userfaultfd_(::memfd_create("userfaultfd", MFD_CLOEXEC)) {
    struct stat st{};
    ::fstat(userfaultfd_.get(), &st);
    process_.inode = st.st_ino;
    process_.threads.resize(world_.dice.between(1, 4));
    connect();
}

void Session::connect() {
    asking_ = Asking::opening;
    auto command_channel = std::make_shared<Fd>(::eventfd(0, EFD_CLOEXEC));
    world_.process_of_fd[command_channel->get()] = &process_;
    Peer peer{.pid = process_.pid, .arms_hints = world_.dice.chance(800)};
    desk_.post([this, command_channel, peer](Core& core) {
        auto opened = core.loop.open_session(peer, std::move(*command_channel), "simulated", 0);
        if (!opened) closed_ = true;
        number_ = opened.value_or(0);
        asking_ = Asking::nothing;
    });
}

// --- requests, one at a time

void Session::attach() {
    wanted_ = world_.dice.pick(world_.files).get();
    find();
}

void Session::find() {
    asking_ = Asking::finding;
    desk_.post([this, identity = wanted_->identity](Core& core) {
        served_ = core.files.find(identity);
        asking_ = Asking::adopting;
    });
}

// The file was looked for: if need be it is opened here, on the session's own thread, and made known.
void Session::adopt() {
    asking_ = Asking::attaching;
    if (served_ == nullptr) {
        desk_.post([this, file = desk_.make_file(*wanted_)](Core& core) {
            auto adopted = core.files.open(file);
            served_ = adopted.value_or(nullptr);
        });
    }
    desk_.post([this](Core& core) {
        bool attached = served_ != nullptr && core.sessions.attach(number_, served_).has_value();
        asking_ = attached ? Asking::mapping : Asking::nothing;
    });
}

void Session::map() {
    Dice& dice = world_.dice;
    uint64_t page = served_->arena.page_bytes(), mappable = round_up(served_->size_bytes(), page);
    uint64_t offset = dice.chance(700) ? 0 : dice.below(mappable / page) * page;
    uint64_t length =
        dice.chance(700) ? mappable - offset : dice.between(1, (mappable - offset) / page) * page;
    Range range;
    next_address_ = round_up(next_address_, 2 * kMiB);
    range.address = next_address_ + offset % (2 * kMiB);
    range.length_bytes = length;
    range.offset_bytes = offset;
    range.arena = served_->arena.at(0);
    range.served_file = served_->number;
    range.mapped.assign(length / kCell, false);
    next_address_ += round_up(length, 2 * kMiB) + 4 * kMiB;
    uint64_t address = range.address;
    process_.ranges.push_back(std::move(range));
    auto fd = std::make_shared<Fd>(duplicate(userfaultfd_).value());
    desk_.post(
        [this, fd, address, request = RegionRequest{served_->number, address, offset, length}](Core& core) {
            bool mapped = core.loop.map(number_, request, std::move(*fd)).has_value();
            asking_ = Asking::nothing;
            Range* told = process_.find(address);
            if (told == nullptr) return;
            told->told = true;
            if (!mapped) told->over = Over::file;
        });
}

void Session::unmap() {
    Range& range = world_.dice.pick(process_.ranges);
    bool slept_in = std::ranges::any_of(process_.threads, [&](const Thread& t) {
        return t.address != 0 && process_.find(t.address) == &range;
    });
    if (!range.told || range.over == Over::leaving || slept_in) return;
    asking_ = Asking::unmapping;
    range.told = false;  // nobody touches it any more
    uint64_t address = range.address;
    desk_.post([this, address, length = range.length_bytes](Core& core) {
        (void)core.sessions.unmap(number_, address, length);
        asking_ = Asking::nothing;
        std::erase_if(process_.ranges, [&](const Range& r) { return r.address == address; });
    });
}

void Session::advise() {
    Range& range = world_.dice.pick(process_.ranges);
    uint64_t into = world_.dice.below(range.length_bytes);
    desk_.post([number = number_, address = range.address + into,
                length = world_.dice.below(range.length_bytes) + 1](Core& core) {
        core.sessions.advise(number, address, length);
    });
}

// --- touches

void Session::touch(Thread& thread) {
    if (process_.ranges.empty()) return;
    Range& range = world_.dice.pick(process_.ranges);
    if (!range.told) return;
    uint64_t cells = range.length_bytes / kCell;
    if (world_.dice.chance(700))
        thread.next_offset += world_.dice.between(1, std::max<uint64_t>(1, cells / 8)) * kCell;
    else
        thread.next_offset = world_.dice.below(cells) * kCell;
    thread.address = range.address + thread.next_offset % range.length_bytes;
    touch_at(thread, range, thread.address);
}

void Session::touch_at(Thread& thread, Range& range, uint64_t address) {
    if (range.over == Over::file) {  // the kernel's mapping: right by definition
        thread.address = 0;
        return;
    }
    uint64_t in_range = (address - range.address) / kCell, cell = range.offset_bytes / kCell + in_range;
    if (range.mapped[in_range]) {
        const Memory& memory = world_.arenas.at(reinterpret_cast<uint64_t>(range.arena));
        if (!memory.cells[cell].present() || !world_.is_right(memory, cell))
            world_.violation(fmt::format("process {} reads what is not page {} of {}", process_.index, cell,
                                         memory.file->path));
        thread.address = 0;
        return;
    }
    thread.state = Thread::State::blocked;
    thread.since_ns = world_.now_ns;
    process_.unread.push_back({.address = address, .thread = static_cast<uint32_t>(process_.index * 16)});
    world_.say("process {} waits at {:#x}, page {}", process_.index, address, cell);
}

void Session::act() {
    if (closed_ || !process_.alive || broke_off_) return;
    Dice& dice = world_.dice;
    if (asking_ == Asking::nothing) {
        if (dice.chance(12)) return die();
        if (process_.ranges.size() < 3 && dice.chance(process_.ranges.empty() ? 700 : 40)) return attach();
        if (!process_.ranges.empty() && dice.chance(25)) return unmap();
        if (!process_.ranges.empty() && dice.chance(25)) return advise();
    }
    Thread& thread = dice.pick(process_.threads);
    if (thread.state == Thread::State::running && thread.address == 0) touch(thread);
}

// --- what it must do

bool Session::execute() {
    if (process_.commands.empty()) return false;
    wire::FallBack order = process_.commands.front();
    process_.commands.pop_front();
    world_.say("process {} obeys order {}", process_.index, order.header.sequence);
    if (order.header.kind == wire::Kind::arm_hint) {
        arm_hint(order);
        return true;
    }
    std::vector<Range> ranges;
    for (Range& range : process_.ranges) {
        uint64_t begin =
            order.file == 0 ? range.offset_bytes : std::max(order.offset_bytes, range.offset_bytes);
        uint64_t end = range.offset_bytes + range.length_bytes;
        if (order.file != 0) end = std::min(order.offset_bytes + order.length_bytes, end);
        bool meant =
            range.over == Over::arena && (order.file == 0 || range.served_file == order.file) && begin < end;
        if (!meant) {
            ranges.push_back(std::move(range));
            continue;
        }
        for (Range& piece : split(range, begin, end)) ranges.push_back(std::move(piece));
    }
    process_.ranges = std::move(ranges);
    executed_.push_back(order.header.sequence);
    return true;
}

// The range in up to three pieces, of which the one with these offsets leaves.
std::vector<Range> Session::split(const Range& range, uint64_t begin, uint64_t end) {
    std::vector<Range> pieces;
    auto cut = [&](uint64_t from, uint64_t to, Over over) {
        if (from >= to) return;
        Range piece = range;
        uint64_t skip = from - range.offset_bytes;
        piece.address = range.address + skip;
        piece.offset_bytes = from;
        piece.length_bytes = to - from;
        piece.over = over;
        auto first = range.mapped.begin() + static_cast<ptrdiff_t>(skip / kCell);
        piece.mapped.assign(first, first + static_cast<ptrdiff_t>((to - from) / kCell));
        pieces.push_back(std::move(piece));
    };
    cut(range.offset_bytes, begin, range.over);
    cut(begin, end, Over::leaving);
    cut(end, range.offset_bytes + range.length_bytes, range.over);
    return pieces;
}

void Session::arm_hint(const wire::FallBack& order) {
    for (Range& range : process_.ranges) {
        if (range.over != Over::arena || range.served_file != order.file) continue;
        bool huge = world_.arenas.at(reinterpret_cast<uint64_t>(range.arena)).backing == Backing::hugetlb;
        uint64_t page = huge ? 2 * kMiB : kCell, begin = round_down(order.offset_bytes, page);
        for (uint64_t at = begin; at < begin + page; at += kCell)
            if (at >= range.offset_bytes && at - range.offset_bytes < range.length_bytes)
                range.mapped[(at - range.offset_bytes) / kCell] = false;
    }
}

void Session::finish_leaving(Range& range) {
    range.over = Over::file;
    range.mapped.assign(range.mapped.size(), false);
    world_.wake(process_, range.address, range.length_bytes);
    world_.say("process {} stands on the file at {:#x}", process_.index, range.address);
}

// The watchdog: tierd hangs, or has hung up.
void Session::break_off() {
    world_.say("process {} breaks off", process_.index);
    broke_off_ = true;
    for (Range& range : process_.ranges)
        if (range.over == Over::arena) range.over = Over::leaving;
}

bool Session::react() {
    if (closed_) return false;
    // Requests that were made are answered, whatever became of the process.
    bool between_requests = asking_ == Asking::nothing || asking_ == Asking::adopting ||
                            (asking_ == Asking::mapping && served_ != nullptr);
    if (!process_.alive) {
        if (!between_requests) return false;
        close();
        return true;
    }
    bool must_leave = process_.hung_up || (number_ != 0 && desk_.heartbeat_is_late());
    if (!broke_off_ && must_leave) {
        break_off();
        return true;
    }
    for (Range& range : process_.ranges)
        if (range.over == Over::leaving) {
            finish_leaving(range);
            return true;
        }
    if (!executed_.empty()) {
        desk_.post([number = number_, sequence = executed_.front()](Core& core) {
            core.sessions.on_fallen_back(number, sequence, 0);
        });
        executed_.erase(executed_.begin());
        return true;
    }
    if (broke_off_) {
        if (!between_requests) return false;
        close();
        return true;
    }
    if (execute()) return true;
    if (asking_ == Asking::adopting) {
        adopt();
        return true;
    }
    if (asking_ == Asking::mapping && served_ != nullptr) {
        map();
        served_ = nullptr;
        return true;
    }
    for (Thread& thread : process_.threads) {
        if (thread.state != Thread::State::running || thread.address == 0) continue;
        Range* range = process_.find(thread.address);
        if (range == nullptr)
            thread.address = 0;
        else
            touch_at(thread, *range, thread.address);
        return true;
    }
    return false;
}

void Session::die() {
    world_.say("process {} dies", process_.index);
    process_.alive = false;
    process_.ranges.clear();
    process_.threads.clear();
    process_.unread.clear();
    process_.commands.clear();
}

// The server sees the end of the connection.
void Session::close() {
    closed_ = true;
    served_ = nullptr;
    desk_.post([number = number_](Core& core) { core.sessions.close(number); });
    process_.hung_up = false;
    process_.commands.clear();
}

bool Session::waits() const {
    return process_.alive && std::ranges::any_of(process_.threads, [](const Thread& t) {
               return t.state == Thread::State::blocked;
           });
}

uint64_t Session::longest_wait_ns() const {
    uint64_t longest = 0;
    for (const Thread& thread : process_.threads)
        if (process_.alive && thread.state == Thread::State::blocked)
            longest = std::max(longest, world_.now_ns - thread.since_ns);
    return longest;
}

}  // namespace tierd::sim
