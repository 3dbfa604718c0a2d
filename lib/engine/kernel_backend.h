// kernel_backend.h - placement's reads, releases and moves, carried out by the kernel.
//
// Owns:      the ring of reads, the bounce buffers, the reads under way, and the migrator.
// Invariant: the bytes of an extent count only if the file was still the same when they had been read. Memory is returned on
//            the evictor's thread, since to unmap it from every client can take as long as a fault.
// Callers:   the engine's thread.
// Fails:     memory that can't be returned may hold half-read bytes: the process ends, which sends every session to the
//            kernel's mapping.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "lib/base/worker.h"
#include "lib/engine/mailbox.h"
#include "lib/engine/weight_file.h"
#include "lib/io/bounce_buffers.h"
#include "lib/io/reader.h"
#include "lib/migrate/migrator.h"
#include "lib/placement/backend.h"

struct statx;

namespace tierd {

// How a read ended.
struct ReadEnd {
    WeightFile* file = nullptr;
    ExtentId extent = kNoExtent;
    uint64_t read_ns = 0;  // when the bytes were there
    uint32_t bytes = 0;    // of the file that were read; 0: the read failed
    bool file_changed = false;
    std::string why;  // the extent can't be served; empty: it can
};

class KernelBackend final : public Backend {
  public:
    KernelBackend(std::unique_ptr<Reader> reader, BounceBuffers bounce, Mailbox& mailbox, Worker& evictor,
                  uint64_t migrate_bytes_per_s);
    ~KernelBackend() override;

    // --- Backend
    uint64_t now_ns() override;
    ReadStart read(PlacedFile& file, ExtentId id, int node) override;
    void submit_reads() override { reader_->flush(); }
    void release(PlacedFile& file, ExtentId id, bool was_published) override;
    void move(PlacedFile& file, MoveOrder order) override;
    void cancel_move(ExtentId id) override { migrator().cancel(id); }
    bool rearm(PlacedFile& file, ExtentId id, int node) override;

    // The file may be read from now on. Errors: no_space.
    Result<void> add_file(WeightFile& file);
    void remove_file(const WeightFile& file) { reader_->remove_file(file.reader_file); }

    // Something of a read ended; returns the read's end when that was the last of it.
    std::optional<ReadEnd> on_completion(const Completion& completion);
    Reader& reader() { return *reader_; }

    // Moves go slower where they make readers wait: one waited from then until now.
    void reader_waited(WaitKind kind, uint64_t begun_ns);
    // The rate of moves as it is now.
    MigrationThrottle throttle() const;

  private:
    // A read under way.
    struct Fetch {
        WeightFile* file = nullptr;
        int node = -1;
        uint8_t parts = 0;       // reads that have not completed
        uint8_t attempts = 0;    // reads tried again after an error
        int failure = 0;         // of a part: a negative errno
        char* bounce = nullptr;  // where the bytes pass through; null: read in place
        uint64_t read_ns = 0;
        std::unique_ptr<struct statx> stat;  // of an identity check under way
    };
    bool issue(ExtentId id, Fetch& fetch);
    std::optional<ReadEnd> on_part(ExtentId id, uint32_t part, int64_t result);
    std::optional<ReadEnd> on_parts_done(ExtentId id, Fetch& fetch);
    std::optional<ReadEnd> on_stat(ExtentId id, int64_t result);
    ReadEnd end(ExtentId id, std::string why);
    Migrator& migrator();

    std::unique_ptr<Reader> reader_;
    BounceBuffers bounce_;
    Mailbox& mailbox_;
    Worker& evictor_;
    const uint64_t migrate_bytes_per_s_;
    std::unique_ptr<Migrator>
        migrator_;  // from the first move on: a machine with one tier has no such thread
    std::unordered_map<ExtentId, Fetch> fetches_;
};

}  // namespace tierd
