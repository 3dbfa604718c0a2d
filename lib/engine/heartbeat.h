// heartbeat.h - the page by which clients see that the engine's thread is alive.
//
// Invariant: once stalled() was true it stays so until recover(): clients may already be putting the kernel's mapping over
//            their ranges by themselves, and not a page may be mapped meanwhile.
// Callers:   the engine's thread; clients read the page.
#pragma once

#include <atomic>

#include "lib/base/clock.h"
#include "lib/session/wire.h"

namespace tierd {

class HeartbeatWriter {
  public:
    // `deadline_ms`: clients leave when the beat is older.
    HeartbeatWriter(wire::Heartbeat* page, uint32_t deadline_ms) : page_(page), deadline_ms_(deadline_ms) {}

    // Relaxed: the page publishes nothing but the beat itself.
    void beat() { std::atomic_ref(page_->beat_ns).store(monotonic_ns(), std::memory_order_relaxed); }
    // True when this thread was stopped or starved for about the clients' deadline.
    bool stalled() {
        uint64_t beat_ns = page_->beat_ns;  // only this thread writes it
        if (monotonic_ns() - beat_ns > deadline_ms_ * kNsPerMs / 5 * 4) stalled_ = true;
        return stalled_;
    }
    void recover() { stalled_ = false; }

  private:
    wire::Heartbeat* page_;
    const uint32_t deadline_ms_;
    bool stalled_ = false;
};

}  // namespace tierd
