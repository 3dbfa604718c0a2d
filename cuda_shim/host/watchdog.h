// watchdog.h - the thread that detects a dead or hung tierd, and executes tierd's commands to fall back.
//
// Invariant: each live session has one watchdog, which ends with it. It takes only the table lock until every mapping
//            is the kernel's again, so a thread that waits for tierd can't block it.
// Callers:   start_watchdog() with the request lock held.
// Fails:     negative errno: the session is then not used.
#pragma once

namespace tierd::shim {

long start_watchdog();

}  // namespace tierd::shim
