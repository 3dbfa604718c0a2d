#include "cuda_shim/host/watchdog.h"

#include <pthread.h>
#include <sys/prctl.h>

#include "cuda_shim/host/fall_back.h"
#include "cuda_shim/host/shim_state.h"

namespace tierd::shim {

static constexpr int64_t kHeartbeatCheckMs = 100;

static void execute(const wire::FallBack& order) {
    auto answer = make_message<wire::FallenBack>(wire::Kind::fallen_back, order.header.sequence);
    Session& session = state().session;
    {
        Guard table(state().table_lock);
        long result = order.file == 0 ? fall_back_everything()
                                      : fall_back_file(order.file, order.offset_bytes, order.length_bytes);
        answer.status = static_cast<int32_t>(result);
        __atomic_fetch_add(&session.commands_executed, 1u, __ATOMIC_RELEASE);
    }
    log_debug() << "fell back as ordered: file " << order.file << ", offset " << order.offset_bytes
                << ", length " << order.length_bytes << ", status " << answer.status;
    if (send_message(session.command_channel.fd, &answer, sizeof answer, nullptr, 0) != 0)
        break_off("an order could not be acknowledged");
    if (order.file == 0) break_off("tierd commanded it");
}

// Unmaps a page where it can't be the client's own, so that its next touch is seen. Of a hugetlb mapping that is a huge
// page; where the kernel has mapped a huge page by one entry, all of that goes.
static void arm_hint(const wire::FallBack& order) {
    State& shim = state();
    Guard table(shim.table_lock);
    for (size_t i = 0; i < shim.regions.count(); i++) {
        const Region& region = shim.regions[i];
        bool meant = region.kind == RegionKind::arena && !region.writable &&
                     shim.attachments[region.file].number == order.file;
        if (!meant || order.offset_bytes < region.offset_bytes) continue;
        uint64_t page_bytes = region.huge ? kHugePageBytes : kPageBytes;
        uint64_t into = round_down(order.offset_bytes, page_bytes) - region.offset_bytes;
        bool inside = order.offset_bytes - region.offset_bytes < region.end - region.begin &&
                      into <= region.end - region.begin && page_bytes <= region.end - region.begin - into;
        if (inside) sys::madvise(region.begin + into, page_bytes, MADV_DONTNEED);
    }
}

static void read_order() {
    wire::FallBack order{};
    uint32_t count = 0;
    long got = receive_message(state().session.command_channel.fd, &order, sizeof order, nullptr, 0, &count);
    if (got == -EAGAIN) return;
    if (got <= 0) return break_off(got == 0 ? "tierd has gone" : "the command channel failed");
    if (order.header.kind == wire::Kind::arm_hint) return arm_hint(order);
    if (order.header.kind != wire::Kind::fall_back) return break_off("an order makes no sense");
    execute(order);
}

static void watch() {
    Session& session = state().session;
    while (session.now() == SessionStatus::live) {
        pollfd wait{session.command_channel.fd, POLLIN, 0};
        long ready = sys::poll_one(&wait, kHeartbeatCheckMs);
        if (!session.command_channel.still_ours()) return break_off("the process closed the command channel");
        if (ready > 0 && (wait.revents & POLLIN) != 0)
            read_order();
        else if (ready > 0)
            return break_off("tierd has gone");
        if (session.hung()) return break_off("tierd hangs");
    }
}

static bool has_writable_regions() {
    RegionTable& regions = state().regions;
    Guard table(state().table_lock);
    for (size_t i = 0; i < regions.count(); i++)
        if (regions[i].kind == RegionKind::arena && regions[i].writable) return true;
    return false;
}

// A page that tierd maps while the client's own pages are looked for could be written to and be lost. So a
// tierd that lives has to let go first: it closes its end once it has heard that the session is over. One
// that hangs maps nothing when it wakes (Core::overslept).
static void wait_until_tierd_lets_go() {
    constexpr uint64_t kPatienceNs = 400'000'000u;
    constexpr int64_t kLookMs = 10;
    const Session& session = state().session;
    uint64_t give_up_ns = sys::now_ns() + kPatienceNs;
    while (session.command_channel.still_ours() && !session.hung() && sys::now_ns() < give_up_ns) {
        pollfd wait{session.command_channel.fd, 0, 0};
        if (sys::poll_one(&wait, kLookMs) > 0) return;
    }
}

static void* run(void*) {
    sys::call(SYS_prctl, PR_SET_NAME, "tierd-shim");
    watch();
    if (has_writable_regions()) wait_until_tierd_lets_go();
    State& shim = state();
    {
        Guard table(shim.table_lock);
        fall_back_everything();
        close_what_is_left();
    }
    Guard request(shim.request_lock);
    Guard table(shim.table_lock);
    shim.attachments.end_session();
    close_session();
    return nullptr;
}

long start_watchdog() {
    pthread_attr_t attributes;
    pthread_t thread;
    if (::pthread_attr_init(&attributes) != 0) return -ENOMEM;
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // Beside our own frames it must hold the static thread-local storage of every library of the engine.
    ::pthread_attr_setstacksize(&attributes, 512u << 10);
    // The caller holds the request lock and with it has all signals blocked; the thread inherits that.
    int error = ::pthread_create(&thread, &attributes, run, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) return -error;
    return 0;
}

}  // namespace tierd::shim
