#include "daemon/rights.h"

#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

namespace tierd {
namespace {

constexpr Capability kKept[] = {
    {CAP_CHOWN, "chown"},                      // the control socket is given to its group
    {CAP_DAC_READ_SEARCH, "dac_read_search"},  // a client's file is opened again with O_DIRECT
    {CAP_IPC_LOCK, "ipc_lock"},                // hugetlb arenas, the rings of samples
    {CAP_SYS_PTRACE, "sys_ptrace"},            // huge pages are mapped in engines, their maps are read
    {CAP_SYS_NICE, "sys_nice"},                // pages that engines have mapped are moved
    {CAP_PERFMON, "perfmon"},                  // the processor's samples, policies
    {CAP_BPF, "bpf"},                          // policies
};
constexpr Capability kStart[] = {
    {CAP_SYS_ADMIN, "sys_admin"},  // the private tmpfs with huge pages is mounted
};

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
constexpr uint32_t kFirstForeignCall = 0x40000000;  // x32's
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
constexpr uint32_t kFirstForeignCall = UINT32_MAX;
#else
#error "name this machine's AUDIT_ARCH_"
#endif

constexpr uint32_t kNeverMade[] = {
    // to start a program
    SYS_execve, SYS_execveat,
    // to look into another process, or to become another user
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_setuid, SYS_setgid, SYS_setreuid,
    SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_add_key, SYS_request_key, SYS_keyctl,
    // to change the kernel
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon, SYS_swapoff,
    // to change what others see: mounts, roots, namespaces, clocks, names
    SYS_mount, SYS_umount2, SYS_move_mount, SYS_open_tree, SYS_mount_setattr, SYS_pivot_root, SYS_chroot,
    SYS_unshare, SYS_setns, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime,
    SYS_sethostname, SYS_setdomainname, SYS_acct, SYS_quotactl, SYS_open_by_handle_at};

uint64_t mask_of(std::span<const Capability> list) {
    uint64_t mask = 0;
    for (const Capability& one : list) mask |= 1ull << one.number;
    return mask;
}

sock_filter jump_if(uint16_t test, uint32_t value, uint8_t jump_true, uint8_t jump_false) {
    return {static_cast<uint16_t>(BPF_JMP | test | BPF_K), jump_true, jump_false, value};
}
sock_filter load(uint32_t offset) {
    return {BPF_LD | BPF_W | BPF_ABS, 0, 0, offset};
}
sock_filter answer(uint32_t what) {
    return {BPF_RET | BPF_K, 0, 0, what};
}

std::vector<sock_filter> program() {
    const sock_filter refuse = answer(SECCOMP_RET_ERRNO | EPERM);
    std::vector<sock_filter> lines = {
        load(offsetof(seccomp_data, arch)), jump_if(BPF_JEQ, kArchitecture, 1, 0),     refuse,
        load(offsetof(seccomp_data, nr)),   jump_if(BPF_JGE, kFirstForeignCall, 0, 1), refuse};
    for (uint32_t call : kNeverMade) {
        lines.push_back(jump_if(BPF_JEQ, call, 0, 1));
        lines.push_back(refuse);
    }
    lines.push_back(answer(SECCOMP_RET_ALLOW));
    return lines;
}

}  // namespace

std::span<const Capability> kept_capabilities() {
    return kKept;
}
std::span<const Capability> start_capabilities() {
    return kStart;
}

Result<void> drop_capabilities(bool starting) {
    // Of what a program that this process starts could have. Only who has CAP_SETPCAP may; others have less to lose.
    for (int number = 0; ::prctl(PR_CAPBSET_READ, number) >= 0; number++)
        if (::prctl(PR_CAPBSET_DROP, number) != 0 && errno != EPERM)
            return os_error(fmt::format("drop capability {} from the bounding set", number));
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return os_error("drop ambient capabilities");
    __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[2] = {};
    if (::syscall(SYS_capget, &head, sets) != 0) return os_error("read capabilities");
    uint64_t keep = mask_of(kKept) | (starting ? mask_of(kStart) : 0);
    for (int half = 0; half < 2; half++) {
        auto mask = static_cast<uint32_t>(keep >> (32 * half));
        sets[half].permitted &= mask;
        sets[half].effective &= mask;
        sets[half].inheritable = 0;
    }
    if (::syscall(SYS_capset, &head, sets) != 0) return os_error("drop capabilities");
    return {};
}

Result<void> refuse_foreign_calls() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return os_error("set no_new_privs");
    auto lines = program();
    const sock_fprog filter{static_cast<uint16_t>(lines.size()), lines.data()};
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0)
        return os_error("set the filter of system calls");
    return {};
}

}  // namespace tierd
