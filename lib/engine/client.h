// client.h - one attached process as the engine sees it: its userfaultfd, and which arena bytes stand at
// which address.
//
// Owns:      the client's userfaultfd and tierd's end of its command channel.
// Invariant: regions are sorted by address and do not overlap.
// Callers:   the engine's thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "lib/engine/weight_file.h"
#include "lib/fault/client_memory.h"
#include "lib/fault/userfaultfd.h"
#include "lib/session/handler.h"

namespace tierd {

struct Region {
    uint64_t address = 0;
    uint64_t length_bytes = 0;
    uint64_t offset_bytes = 0;  // in the arena
    std::shared_ptr<WeightFile> file;

    uint64_t end() const { return address + length_bytes; }
    // The extent at an address inside the region.
    ExtentId extent_at(uint64_t at) const { return file->extent_at(offset_bytes + (at - address)); }
};

// A piece of a region that one extent covers.
struct AddressRange {
    uint64_t address = 0;
    uint64_t length_bytes = 0;
};

// Where extent `id` stands in the region; empty when it does not.
AddressRange range_of(const Region& region, ExtentId id);

struct FallBackCommand {
    uint64_t file = 0;  // 0: everything
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    std::vector<AddressRange> leaving;  // where that stands in the client; filled when the order is sent
};

struct Client {
    uint64_t number = 0;
    Peer peer;
    std::string command;
    uint64_t cgroup = 0;  // id of its cgroup (version 2); 0: unknown
    Fd command_channel;
    std::optional<Userfaultfd> userfaultfd;
    std::vector<Region> regions;
    std::shared_ptr<const ClientMemory> memory;  // opened when it is first needed
    std::shared_ptr<Userfaultfd> waker;          // a second descriptor, for the evictor; made when needed
    bool lost = false;         // it goes on with the kernel's mapping, and maps nothing any more
    bool no_huge = false;      // its mappings stay as they are
    std::set<uint64_t> files;  // attached
    std::map<uint32_t, FallBackCommand> commands;  // sent, not yet acknowledged
    uint32_t next_sequence = 1;
    uint64_t faults_missing = 0;
    uint64_t faults_minor = 0;
    uint64_t slowest_fault_ns = 0;

    const Region* find(uint64_t address) const;
    void add_region(Region region);  // cuts what it overlaps
    // Forgets [address, address + length), cutting regions at its edges.
    void cut(uint64_t address, uint64_t length_bytes);
    // Forgets every piece that the order is about, and returns where they stood.
    std::vector<AddressRange> cut_ordered(const FallBackCommand& order);
    // True while the address is being put on the kernel's mapping: nothing may be mapped there any more, and
    // the shim wakes who waits.
    bool leaving(uint64_t address) const;
    bool maps(uint64_t file) const;
};

}  // namespace tierd
