// sessions.h - the attached processes: which files they have, what they map where, and their way back to the kernel's
// mapping.
//
// Owns:      the clients, and the counts of orders to fall back by reason.
// Invariant: what a client was ordered to give back is mapped by nobody from that moment on: a page that appeared while the
//            shim looks for the client's own pages could be written to and be lost.
// Callers:   the engine's thread.
// Fails:     a client that does not read its orders loses the session; its closed channel makes it fall back by itself.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/engine/access_sampler.h"
#include "lib/engine/client.h"
#include "lib/engine/fall_back_reason.h"
#include "lib/engine/files.h"
#include "lib/engine/readiness.h"
#include "lib/placement/placement.h"

namespace tierd {

class Sessions {
  public:
    using Clients = std::map<uint64_t, std::unique_ptr<Client>>;

    Sessions(Placement& placement, FileRegistry& files, AccessSampler& sampler, Readiness& readiness)
        : placement_(placement), files_(files), sampler_(sampler), readiness_(readiness) {}

    // Returns its number. `notice`: tierd's end of its control channel.
    uint64_t open(const Peer& peer, Fd command_channel, std::string command, uint64_t cgroup);
    void close(uint64_t number);
    Client* find(uint64_t number);
    const Clients& all() const { return clients_; }

    // Errors: gone, busy.
    Result<void> attach(uint64_t client, const std::shared_ptr<WeightFile>& file);
    // Errors: gone, denied, bad_input, no_space. Returns the region, valid until the client's regions change.
    Result<const Region*> map(uint64_t client, const RegionRequest& request, Fd userfaultfd);
    Result<void> unmap(uint64_t client, uint64_t address, uint64_t length_bytes);
    void advise(uint64_t client, uint64_t address, uint64_t length_bytes);

    void command_fall_back(Client& client, FallBackCommand order, FallBackReason reason);
    // Of the whole file, in every client.
    void command_fall_back(const WeightFile& file, FallBackReason reason);
    void command_all_back(FallBackReason reason);
    // Its control channel is closed; it falls back by itself.
    void lose(Client& client, FallBackReason reason);
    void lose_all(FallBackReason reason);
    void on_fallen_back(uint64_t client, uint32_t sequence, int status);
    bool has_orders() const;  // not yet acknowledged
    const FallBackCounts& fall_backs() const { return fall_backs_; }

  private:
    Placement& placement_;
    FileRegistry& files_;
    AccessSampler& sampler_;
    Readiness& readiness_;
    Clients clients_;  // by number
    uint64_t next_number_ = 1;
    FallBackCounts fall_backs_{};
};

}  // namespace tierd
