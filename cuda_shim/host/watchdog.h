// watchdog.h - the thread that notices when tierd is gone or hangs, and carries out tierd's orders to fall
// back.
//
// Invariant: one watchdog for each live session; it ends with it. It takes the table lock only, until every
//            mapping is the kernel's again, so nothing that waits for tierd can hold it up.
// Callers:   start_watchdog() with the request lock held.
// Fails:     negative errno: the session is then not used.
#pragma once

namespace tierd::shim {

long start_watchdog();

}  // namespace tierd::shim
