// state_db.h - what tierd keeps between runs: the order in which a model's extents are first touched, and the speed of
// disks.
//
// Owns:      one SQLite database file (state.sqlite).
// Invariant: losing or damaging the file costs speed only: unreadable content is dropped and collected again.
// Callers:   one thread at a time (the daemon's housekeeping thread); calls do I/O and may block.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/tier/disk.h"

namespace tierd {

struct TouchOrder {
    uint64_t layout = 0;          // ExtentLayout::fingerprint() of what `order` counts
    std::vector<uint32_t> order;  // extent indices, in the order of their first touch; may be partial
    uint64_t recorded_ns = 0;     // CLOCK_REALTIME
};

class StateDb {
  public:
    // Opens or creates the database; ":memory:" keeps it in memory. A damaged file is renamed to PATH.damaged
    // and begun anew. Errors: io when the directory can't be written.
    static Result<std::unique_ptr<StateDb>> open(const std::string& path);
    virtual ~StateDb() = default;

    // The order learned for a weight file (key: identity_key()). Errors: not_found; io.
    virtual Result<TouchOrder> load_order(const std::string& file_key) = 0;
    // Replaces what is known. Keeps at most 4096 files, dropping the oldest. Errors: io.
    virtual Result<void> store_order(const std::string& file_key, const TouchOrder& order) = 0;

    // What was measured of a disk (key: disk_key()). Errors: not_found; io.
    virtual Result<DiskFigures> load_disk(const std::string& disk_key) = 0;
    virtual Result<void> store_disk(const std::string& disk_key, const DiskFigures& figures) = 0;
};

}  // namespace tierd
