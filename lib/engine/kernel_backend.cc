#include "lib/engine/kernel_backend.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/migrate/node_memory.h"

namespace tierd {

namespace {

constexpr uint64_t kStatTag = 1ull << 62;
constexpr uint32_t kPartShift = 32;
constexpr uint32_t kPartBytes = 256 * kKiB;
constexpr uint8_t kMaxAttempts = 3;

// Bytes of the file in a part of an extent's read.
uint32_t part_bytes(const WeightFile& file, ExtentId id, bool bounced, uint32_t part) {
    uint32_t step = bounced ? kPartBytes : UINT32_MAX;
    return std::min(step, file.bytes_in(id) - part * kPartBytes);
}

PageRange pages_of(const WeightFile& file, ExtentId id) {
    return {file.arena.at(file.offset_of(id)), file.memory_of(id), file.arena.page_bytes()};
}

bool is_same(const struct statx& stat, const FileIdentity& identity) {
    auto in_ns = [](const statx_timestamp& t) {
        return t.tv_sec * static_cast<int64_t>(kNsPerSecond) + t.tv_nsec;
    };
    return stat.stx_size == identity.size_bytes && in_ns(stat.stx_mtime) == identity.mtime_ns &&
           in_ns(stat.stx_ctime) == identity.ctime_ns;
}

MoveEnd::Outcome outcome_of(const MoveResult& result) {
    switch (result.outcome) {
        case MoveOutcome::moved:
            return MoveEnd::Outcome::moved;
        case MoveOutcome::refused:
            return MoveEnd::Outcome::refused;
        case MoveOutcome::split:
            return MoveEnd::Outcome::split;
        case MoveOutcome::cancelled:
            return MoveEnd::Outcome::cancelled;
    }
    return MoveEnd::Outcome::refused;
}

}  // namespace

KernelBackend::KernelBackend(std::unique_ptr<Reader> reader, BounceBuffers bounce, Mailbox& mailbox,
                             Worker& evictor, uint64_t migrate_bytes_per_s)
    : reader_(std::move(reader)),
      bounce_(std::move(bounce)),
      mailbox_(mailbox),
      evictor_(evictor),
      migrate_bytes_per_s_(migrate_bytes_per_s) {}

KernelBackend::~KernelBackend() = default;

uint64_t KernelBackend::now_ns() {
    return monotonic_ns();
}

Result<void> KernelBackend::add_file(WeightFile& file) {
    auto registered = reader_->add_file(file.origin.fd.get());
    if (!registered) return std::unexpected(registered.error());
    file.reader_file = *registered;
    return {};
}

// --- reads

ReadStart KernelBackend::read(PlacedFile& placed, ExtentId id, int node) {
    WeightFile& file = served(placed);
    Fetch fetch;
    fetch.file = &file;
    fetch.node = node;
    PreferNode prefer(node);
    if (file.bounces(id)) {
        fetch.bounce = bounce_.take();
        if (fetch.bounce == nullptr) return ReadStart::no_buffer;
    } else if (!file.arena.reserve(file.offset_of(id), file.memory_of(id))) {
        return ReadStart::no_huge_page;
    }
    if (!issue(id, fetch)) {
        if (fetch.bounce != nullptr) bounce_.give_back(fetch.bounce);
        spdlog::warn("cannot read extent {} of {}: the ring is full", file.index_of(id), file.path);
        return ReadStart::ring_full;
    }
    fetches_[id] = std::move(fetch);
    return ReadStart::begun;
}

// Reads that pass through a buffer go in parts: while one is copied into the arena, the disk works on the next.
// False when the ring took none.
bool KernelBackend::issue(ExtentId id, Fetch& fetch) {
    WeightFile& file = *fetch.file;
    PreferNode prefer(fetch.node);
    // The kernel's own threads may issue the read, and know nothing of what this one prefers.
    if (file.has_folios(id))
        file.arena.populate_folios(file.offset_of(id), file.memory_of(id));
    else if (fetch.bounce == nullptr && fetch.node >= 0)
        file.arena.populate(file.offset_of(id), file.memory_of(id));
    const bool bounced = fetch.bounce != nullptr;
    uint32_t parts = bounced ? (file.bytes_in(id) + kPartBytes - 1) / kPartBytes : 1;
    fetch.failure = 0;
    for (uint32_t part = 0; part < parts; part++) {
        uint64_t offset = file.offset_of(id) + part * kPartBytes;
        uint64_t length = part_bytes(file, id, bounced, part);
        if (file.origin.direct) length = round_up(length, kDirectAlign);
        bool accepted =
            reader_->read({.tag = uint64_t{part} << kPartShift | id,
                           .file = file.reader_file,
                           .offset_bytes = offset,
                           .length_bytes = static_cast<uint32_t>(length),
                           .into = bounced ? fetch.bounce + part * kPartBytes : file.arena.at(offset),
                           .may_hang = file.slow_origin});
        if (!accepted) {
            fetch.failure = -EAGAIN;
            break;
        }
        fetch.parts++;
    }
    // The disk works while the next extent's memory is made.
    if (!bounced) reader_->flush();
    return fetch.parts > 0;
}

std::optional<ReadEnd> KernelBackend::on_completion(const Completion& completion) {
    auto id = static_cast<ExtentId>(completion.tag);
    if ((completion.tag & kStatTag) != 0) return on_stat(id, completion.result);
    return on_part(id, static_cast<uint32_t>(completion.tag >> kPartShift), completion.result);
}

std::optional<ReadEnd> KernelBackend::on_part(ExtentId id, uint32_t part, int64_t result) {
    Fetch& fetch = fetches_.at(id);
    WeightFile& file = *fetch.file;
    uint32_t wanted = part_bytes(file, id, fetch.bounce != nullptr, part);
    if (result == wanted && fetch.bounce != nullptr) {
        PreferNode prefer(fetch.node);
        auto stored = file.arena.store(file.offset_of(id) + part * kPartBytes,
                                       fetch.bounce + part * kPartBytes, wanted);
        // Part of a page must never be shown.
        if (!stored) result = -(stored.error().err != 0 ? stored.error().err : EIO);
    }
    if (result == -EINVAL && file.origin.direct) file.origin.leave_direct();
    if (result != wanted) fetch.failure = result < 0 ? static_cast<int>(result) : -ENODATA;
    return --fetch.parts == 0 ? on_parts_done(id, fetch) : std::nullopt;
}

std::optional<ReadEnd> KernelBackend::on_parts_done(ExtentId id, Fetch& fetch) {
    WeightFile& file = *fetch.file;
    if (fetch.failure != 0) {
        // Once more: the error may have passed, and a short read of an unchanged file is only a short read.
        int failure = fetch.failure;
        if (++fetch.attempts < kMaxAttempts && issue(id, fetch)) return std::nullopt;
        return end(
            id, failure == -ENODATA ? "the file is shorter than it was" : fmt::format("error {}", -failure));
    }
    fetch.read_ns = now_ns();
    if (!file.origin.direct)
        evictor_.post([shared = file.shared_from_this(), offset = file.offset_of(id),
                       length = file.memory_of(id)] { shared->origin.drop_cache(offset, length); });
    if (!file.slow_origin) {
        ReadEnd ended = end(id, "");
        ended.file_changed = !file.origin.unchanged();
        return ended;
    }
    fetch.stat = std::make_unique<struct statx>();
    if (reader_->stat(kStatTag | id, file.origin.fd.get(), fetch.stat.get())) return std::nullopt;
    return end(id, "the ring is full");
}

std::optional<ReadEnd> KernelBackend::on_stat(ExtentId id, int64_t result) {
    Fetch& fetch = fetches_.at(id);
    bool same = result == 0 && is_same(*fetch.stat, fetch.file->origin.identity);
    ReadEnd ended = end(id, "");
    ended.file_changed = !same;
    return ended;
}

ReadEnd KernelBackend::end(ExtentId id, std::string why) {
    Fetch fetch = std::move(fetches_.extract(id).mapped());
    if (fetch.bounce != nullptr) bounce_.give_back(fetch.bounce);
    return {.file = fetch.file,
            .extent = id,
            .read_ns = fetch.read_ns,
            .bytes = fetch.read_ns > 0 ? fetch.file->bytes_in(id) : 0,
            .why = std::move(why)};
}

// --- releases

void KernelBackend::release(PlacedFile& placed, ExtentId id, bool was_published) {
    WeightFile& file = served(placed);
    evictor_.post([&mailbox = mailbox_, id, was_published, shared = file.shared_from_this(),
                   offset = file.offset_of(id), length = file.memory_of(id)] {
        auto released = shared->arena.release(offset, length);
        if (!released) {
            spdlog::critical("{} of {}", released.error().text(), shared->path);
            std::abort();
        }
        mailbox.post([id, was_published](Core& core) { core.loop.on_released(id, was_published); });
    });
}

bool KernelBackend::rearm(PlacedFile& placed, ExtentId id, int node) {
    WeightFile& file = served(placed);
    PreferNode prefer(node);
    auto renewed = file.arena.rearm_page(file.offset_of(id));
    if (!renewed) spdlog::warn("{}: the extent will be read again", renewed.error().text());
    return renewed.has_value();
}

// --- moves

Migrator& KernelBackend::migrator() {
    if (!migrator_)
        migrator_ = std::make_unique<Migrator>(
            [&mailbox = mailbox_](const MoveResult& result) {
                if (result.outcome == MoveOutcome::refused || result.outcome == MoveOutcome::split)
                    spdlog::debug("extent row {} stays in its tier: {}", result.tag,
                                  move_error_text(result.error));
                MoveEnd end{.extent = static_cast<ExtentId>(result.tag),
                            .outcome = outcome_of(result),
                            .error = result.error};
                mailbox.post([end](Core& core) { core.loop.on_moved(end); });
            },
            migrate_bytes_per_s_);
    return *migrator_;
}

void KernelBackend::move(PlacedFile& placed, MoveOrder order) {
    WeightFile& file = served(placed);
    migrator().move({.tag = order.extent,
                     .range = pages_of(file, order.extent),
                     .to = std::move(order.to),
                     .from = std::move(order.from),
                     .modelled_ns = order.modelled_ns,
                     .priority = order.priority,
                     .keep = file.shared_from_this()});
}

void KernelBackend::reader_waited(WaitKind kind, uint64_t begun_ns) {
    if (migrator_) migrator_->reader_waited(kind, begun_ns);
}

MigrationThrottle KernelBackend::throttle() const {
    return migrator_ ? migrator_->throttle() : MigrationThrottle(migrate_bytes_per_s_);
}

}  // namespace tierd
