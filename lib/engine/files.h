// files.h - which weight files are served: found by identity, opened, watched for changes, and closed when idle.
//
// Owns:      the files, the kernel's watch on them, and what is kept of their learned order.
// Invariant: a file is known from open() until nobody has it attached and nothing of it is in memory; of one identity at
//            most one unchanged file is known.
// Callers:   the engine's thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/worker.h"
#include "lib/engine/inotify.h"
#include "lib/engine/kernel_backend.h"
#include "lib/placement/placement.h"
#include "lib/state/state_db.h"

namespace tierd {

class FileRegistry {
  public:
    FileRegistry(Placement& placement, KernelBackend& backend, FileWatch watch, Worker& state_thread,
                 std::shared_ptr<StateDb> state);

    // The unchanged file of that identity, or null.
    std::shared_ptr<WeightFile> find(const FileIdentity& identity) const;
    std::shared_ptr<WeightFile> find(uint64_t number) const;
    // Serves `file`, unless its twin was opened first; returns the one that counts. Errors: no_space.
    Result<std::shared_ptr<WeightFile>> open(std::shared_ptr<WeightFile> file);
    void close_if_idle(PlacedFile* file);  // null: it was closed already

    // All parts of a model by its name, or one file by path or number. Errors: not_found; bad_input where several models have
    // that name.
    Result<std::vector<std::shared_ptr<WeightFile>>> named(const std::string& model) const;
    const std::map<uint64_t, std::shared_ptr<WeightFile>>& all() const { return files_; }

    // The files that the kernel reports as changed, and that are.
    std::vector<std::shared_ptr<WeightFile>> read_changes();
    void stop_watching(WeightFile& file);
    int watch_fd() const { return watch_.poll_fd(); }

    // Stores the order of this run's first touches, where the run began cold.
    void store_order(WeightFile& file);

  private:
    Placement& placement_;
    KernelBackend& backend_;
    FileWatch watch_;
    Worker& state_thread_;
    std::shared_ptr<StateDb> state_;                         // used on state_thread_ only; may be null
    std::map<uint64_t, std::shared_ptr<WeightFile>> files_;  // by number
    uint64_t next_number_ = 1;
};

}  // namespace tierd
