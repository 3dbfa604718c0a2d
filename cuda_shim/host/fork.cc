#include "cuda_shim/host/fork.h"

#include "cuda_shim/host/fall_back.h"
#include "cuda_shim/host/shim_state.h"

namespace tierd::shim {

static void inherit_writable(int advice) {
    RegionTable& regions = state().regions;
    for (size_t i = 0; i < regions.count(); i++) {
        const Region& region = regions[i];
        if (region.kind == RegionKind::arena && region.writable && !region.not_forked)
            sys::madvise(region.begin, region.end - region.begin, advice);
    }
}

// A process that was itself forked behind our back has no use for the locks, and may have inherited them
// held.
void before_fork() {
    State& shim = state();
    if (!shim.owns_address_space()) return;
    SignalMask before = block_signals();
    shim.request_lock.lock();
    shim.table_lock.lock();
    shim.fork_signals = before;
    shim.forks_own_space = true;
    inherit_writable(MADV_DOFORK);
}

void after_fork_in_parent() {
    State& shim = state();
    if (!shim.owns_address_space()) return;
    inherit_writable(MADV_DONTFORK);
    shim.forks_own_space = false;
    SignalMask before = shim.fork_signals;
    shim.table_lock.unlock();
    shim.request_lock.unlock();
    restore_signals(before);
}

void after_fork_in_child() {
    State& shim = state();
    if (!shim.forks_own_space) return;
    shim.forks_own_space = false;
    if (shim.address_space_mark != nullptr) {
        fall_back_in_child();
        shim.attachments.end_session();
        close_session();
        shim.pagemap.close();
        shim.session.next_try_ns = 0;
        // Wiped by the fork: from here on the state describes this address space.
        __atomic_store_n(shim.address_space_mark, 1u, __ATOMIC_RELEASE);
    }
    shim.table_lock.reset();
    shim.request_lock.reset();
    restore_signals(shim.fork_signals);
}

}  // namespace tierd::shim
