// huge_mapper.h - extents that stay get huge mappings.
//
// UFFDIO_CONTINUE maps a huge page by 512 small entries, which costs a reader of a whole model 2 to 10 % of the memory's
// rate. One call turns them into one entry, without the client's help. That is work for idle times and for models that fit:
// what is soon evicted is not worth it.
//
// Owns:      the extents that were mapped by small entries and wait for a huge one.
// Invariant: the call maps whatever is in the arena, so it must never meet an extent that is being filled again. It runs on
//            the evictor's thread, in the order in which jobs were posted: whatever is resident when it is posted can't be
//            evicted before it has run.
// Callers:   the engine's thread.
#pragma once

#include <deque>

#include "lib/base/worker.h"
#include "lib/engine/mailbox.h"
#include "lib/engine/sessions.h"
#include "lib/placement/placement.h"

namespace tierd {

class HugeMapper {
  public:
    HugeMapper(Placement& placement, Sessions& sessions, Mailbox& mailbox, Worker& evictor)
        : placement_(placement), sessions_(sessions), mailbox_(mailbox), evictor_(evictor) {}

    // The extent was just mapped there by small entries.
    void request(const Client& client, const Region& region, ExtentId id, AddressRange range);
    // Starts one job, unless one is under way or anything is being read.
    void map_some();
    void on_mapped(uint64_t client, AddressRange run, int error);

  private:
    struct Request {
        uint64_t client = 0;
        uint64_t address = 0;
    };
    AddressRange range_now(const Request& request);
    AddressRange next_run(uint64_t& client);
    void mark_huge(uint64_t client, AddressRange run);

    Placement& placement_;
    Sessions& sessions_;
    Mailbox& mailbox_;
    Worker& evictor_;
    std::deque<Request> requests_;
    bool under_way_ = false;
};

}  // namespace tierd
