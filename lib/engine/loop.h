// loop.h - the engine's thread: waits for events, and lets each owner do its part, in one fixed order.
//
// Owns:      the clock of epochs, and the stop.
// Invariant: control flow is here, state is in the owners. Events that Placement returns are handled before it is called
//            again for something else.
// Callers:   the engine's thread; everybody else posts to the mailbox.
// Blocks:    never on the disk, on a client or on a lock held over I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "lib/engine/client.h"
#include "lib/engine/readiness.h"
#include "lib/engine/weight_file.h"
#include "lib/io/reader.h"
#include "lib/placement/backend.h"
#include "lib/tier/memory_events.h"

namespace tierd {

struct Core;

class Loop {
  public:
    Loop(Core& core, Readiness& readiness, MemoryEvents memory_events);

    void run();  // until request_stop() was honoured
    // One round of it: waits for events, at most until the next epoch, and does all that can be done. False when that was
    // the last.
    bool turn();
    // Sends every session back to the kernel's mapping; run() returns when they answered or `deadline_ns` is past.
    void request_stop(uint64_t deadline_ns);
    bool is_stopping() const { return stopping_; }

    // --- messages of sessions
    Result<uint64_t> open_session(const Peer& peer, Fd command_channel, std::string command, uint64_t cgroup);
    Result<void> map(uint64_t client, const RegionRequest& request, Fd userfaultfd);

    // --- what the backend's threads report
    void on_released(ExtentId id, bool was_published);
    void on_moved(const MoveEnd& end);
    void on_policy_replies();

  private:
    void wait_for_events();
    void on_event(uint64_t what);
    void on_completion(const Completion& completion);
    void on_memory_changed();
    void on_epoch();
    void pump();
    void handle_events();
    void mark_changed(WeightFile& file);
    bool has_stopped();
    void run_closures();

    Core& core_;
    Readiness& readiness_;
    MemoryEvents memory_events_;
    const uint32_t epoch_ms_;
    uint64_t next_epoch_ns_;
    bool stopping_ = false;
    uint64_t stop_deadline_ns_ = 0;
};

}  // namespace tierd
