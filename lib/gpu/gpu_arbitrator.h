// gpu_arbitrator.h - shares the memory of the machine's GPUs out to processes, over their lease channels.
//
// Owns:      one thread, the lease channels, and a GpuLeaseTable for each GPU that a process has named.
// Invariant: a lease ends when its channel does, at once: the kernel closes it with the process. Nothing of a client is
//            trusted: a message that makes no sense ends its lease. No client is waited for.
// Callers:   adopt(), gpus(), set_priorities(), runs_version(), runs_of(): any thread.
// Fails:     a client that does not read loses its lease.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/fd.h"
#include "lib/session/handler.h"

namespace tierd {

struct GpuConfig {
    uint32_t percent = 90;    // of a GPU's memory that leases may be together; ignored when `bytes` is set
    uint64_t bytes = 0;       // the same as a size; 0: `percent` holds
    uint32_t slice_ms = 500;  // a lease that is in use is not asked back before it has lasted so long
};

// The process that a lease is for.
struct LeaseHolder {
    pid_t pid = 0;
    uid_t uid = 0;
    std::string command;
    uint64_t cgroup = 0;  // id, version 2; 0: unknown
};

struct LeaseStatus {
    uint64_t number = 0;  // never used again
    LeaseHolder holder;
    uint64_t lease_bytes = 0;
    uint64_t pinned_bytes = 0;
    uint64_t requested_bytes = 0;  // while it waits
    uint32_t position = 0;         // in the queue, from 1; 0: it does not wait
    uint64_t waiting_since_ns = 0;
    uint64_t granted_ns = 0;  // when it last grew
};

struct GpuStatus {
    std::string name;  // "gpu-" and the first bytes of the GPU's UUID
    uint64_t capacity_bytes = 0;
    uint64_t leased_bytes = 0;
    std::vector<LeaseStatus> leases;
};

// Bytes of a weight file that stand in a GPU's memory, as the processes there say.
struct GpuRun {
    std::string gpu;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
};

class GpuArbitrator {
  public:
    static Result<std::unique_ptr<GpuArbitrator>> start(const GpuConfig& config);
    virtual ~GpuArbitrator() = default;

    // Takes over a channel whose first message was `hello`.
    virtual void adopt(Fd channel, LeaseHolder holder, const LeaseRequest& request) = 0;
    virtual std::vector<GpuStatus> gpus() const = 0;
    // The priorities that a policy gives, by number of lease. All others have priority 0 from now on.
    virtual void set_priorities(const std::map<uint64_t, uint64_t>& by_lease) = 0;
    // Rises with each change of what runs_of() says.
    virtual uint64_t runs_version() const = 0;
    // Of the file with this number, in no order; several processes may name the same bytes.
    virtual std::vector<GpuRun> runs_of(uint64_t file) const = 0;
};

}  // namespace tierd
