// shim_state.h - the one struct of all the shim's state.
//
// A preloaded library is called from any code that maps memory and has no argument for its state. So there is one
// object, in memory that is zero before any constructor runs: earlier calls see `enabled` false and go to the kernel.
//
// Owns:      configuration, locks, the session, the tables.
// Invariant: lock order is request lock, then table lock. The request lock is held for a whole call that tierd must
//            be informed of, so tierd receives calls in the order in which they happened. The table lock is held for
//            system calls on mappings only, never while a thread waits for tierd: the watchdog needs only the table
//            lock to fall back. No thread touches weights that may be absent while it holds either lock.
// Callers:   as stated at each part.
#pragma once

#include "cuda_shim/host/attachment.h"
#include "cuda_shim/host/log.h"
#include "cuda_shim/host/owned_fd.h"
#include "cuda_shim/host/region.h"
#include "cuda_shim/host/session.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

// From the environment, read once by the constructor: TIERD_SOCKET, TIERD_MATCH, TIERD_MIN_BYTES, TIERD_LOG.
struct Config {
    char socket[108] = {};
    char match[2048] = {};
    uint64_t min_bytes = 0;  // files smaller than that are the kernel's
    LogLevel log_level = LogLevel::off;
};

// Numbers from here on are not guarded against close(); ours lie below unless thousands are taken.
inline constexpr int kGuardableFds = 8192;

// The functions that this library interposes, for calls that another preloaded library may care
// about.
struct NextFunctions {
    int (*close)(int) = nullptr;
    int (*close_range)(unsigned, unsigned, int) = nullptr;
};

struct State {
    bool enabled = false;  // set last by the constructor, never cleared
    Config config;
    NextFunctions next;                             // from the constructor
    uint64_t guarded_fds[kGuardableFds / 64] = {};  // atomic words; see owned_fd.h

    Lock request_lock;  // guards: session, and the order of messages to tierd
    Lock table_lock;    // guards: regions, attachments
    Session session;
    RegionTable regions;
    AttachmentTable attachments;

    OwnedFd pagemap;  // of this process; made with the session, guarded like the tables
    // mlockall(MCL_FUTURE): mappings are to be populated at once, which is the kernel's to do.
    bool all_locked = false;
    // One word in a page that a forked child sees as zero: non-zero where the state belongs to this address
    // space. Children without handlers (a bare clone system call) have neither our watchdog nor a way to know
    // the locks' owners.
    uint32_t* address_space_mark = nullptr;

    SignalMask fork_signals = 0;   // kept from before fork() until after it
    bool forks_own_space = false;  // the process that forks is one that the state belongs to

    // False in a child that was forked behind our back: everything is then the kernel's.
    bool owns_address_space() const {
        uint32_t* mark = __atomic_load_n(&address_space_mark, __ATOMIC_ACQUIRE);
        return mark == nullptr || __atomic_load_n(mark, __ATOMIC_RELAXED) != 0;
    }
};

State& state();

// Takes the memory of the tables, the pagemap's descriptor and the mark. Returns false when the kernel gives
// none. Callers: with the request lock held.
bool prepare_state();

}  // namespace tierd::shim
