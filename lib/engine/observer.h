// observer.h - the one place where something else can watch what happens to extents: a trace that is being recorded.
//
// Owns:      the words; no state.
// Invariant: watching changes nothing: the engine tells after it has done.
// Callers:   the engine's thread calls; what is told must be copied, and the call must be quick.
#pragma once

#include "lib/policy/policy.h"

namespace tierd {

class EngineObserver {
  public:
    virtual ~EngineObserver() = default;
    virtual void model_opened(const PolicyView& view, const PolicyModel& model) = 0;
    virtual void model_closed(const PolicyView& view, uint32_t model) = 0;
    virtual void first_session(const PolicyView& view, uint32_t model, uint32_t uid, uint64_t cgroup) = 0;
    virtual void last_session(const PolicyView& view, uint32_t model) = 0;
    virtual void touched(const PolicyView& view, ExtentId extent, Touch touch) = 0;
    virtual void filled(const PolicyView& view, ExtentId extent) = 0;
    virtual void evicted(const PolicyView& view, ExtentId extent) = 0;
    virtual void epoch(const PolicyView& view) = 0;
    // What the policy proposed, before it is looked at.
    virtual void proposed(const PolicyView& view, const PolicyDecisions& decisions) = 0;
};

}  // namespace tierd
