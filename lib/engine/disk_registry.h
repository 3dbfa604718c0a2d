// disk_registry.h - the disks that weight files lie on: found when a file is first served from one, measured once when nobody waits
// for them, remembered in the state database.
//
// Owns:      what is known of each disk, and the thread that measures.
// Invariant: a disk is measured at most once in its life (as its serial number tells it), and at most kMostAttempts times are tried in
//            a run; a measurement ends as soon as `idle` says no.
// Callers:   any thread. see() may wait for the state database.
// Fails:     never: a disk that can't be found or measured is listed without figures, or not at all.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "lib/base/worker.h"
#include "lib/engine/status.h"
#include "lib/io/origin.h"
#include "lib/state/state_db.h"
#include "lib/tier/disk.h"
#include "lib/tier/disk_probe.h"

namespace tierd {

class DiskRegistry {
  public:
    struct Parts {
        std::shared_ptr<StateDb> state;  // used on `memory`'s thread only; may be null
        Worker* memory;
        bool measure = false;
        std::function<bool()> idle;  // nobody waits for a disk now; called on the book's thread
    };
    explicit DiskRegistry(Parts parts);
    ~DiskRegistry();
    DiskRegistry(const DiskRegistry&) = delete;
    DiskRegistry& operator=(const DiskRegistry&) = delete;

    // A weight file is served from there.
    void see(const Origin& origin);
    // Those that files are served from; `bytes` of files by their device.
    std::vector<DiskStatus> list(const std::map<dev_t, uint64_t>& bytes);

  private:
    static constexpr int kMostAttempts = 3;
    struct Known {
        Disk disk;
        std::optional<DiskFigures> figures;
        Fd file = {};  // to be read from; none: not to be measured now
        int attempts = 0;
    };
    std::optional<DiskFigures> remembered(const std::string& key);
    void remember(const std::string& key, const DiskFigures& figures);
    void run();
    bool measure(std::unique_lock<std::mutex>& lock, const std::string& key);

    const Parts parts_;
    std::mutex mutex_;  // guards what follows; never held while a disk is read or asked for
    std::condition_variable wake_;
    std::map<dev_t, std::string> keys_;
    std::map<std::string, Known> disks_;  // by key
    bool stopping_ = false;
    std::thread thread_;  // last: it uses everything above
};

}  // namespace tierd
