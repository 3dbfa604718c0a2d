// placement_auditor.h - compares where extents are believed to be with where the kernel has their pages.
//
// Owns:      its place in the table. Others may move our pages: the kernel when memory goes offline or is short, an
//            administrator.
// Invariant: every row is looked at within some epochs; sooner after suspect_all().
// Callers:   the engine's thread, once an epoch.
#pragma once

#include "lib/placement/placement.h"

namespace tierd {

class PlacementAuditor {
  public:
    explicit PlacementAuditor(Placement& placement) : placement_(placement) {}

    void check_some();
    // Memory went or came: look at every row soon. Twice, since some may be on their way while it happens.
    void suspect_all();

  private:
    size_t check(ExtentId id);

    Placement& placement_;
    ExtentId next_ = 0;
    uint32_t suspect_rows_ = 0;
};

}  // namespace tierd
