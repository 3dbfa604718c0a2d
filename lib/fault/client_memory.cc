#include "lib/fault/client_memory.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace tierd {

Result<ClientMemory> ClientMemory::of(pid_t pid) {
    Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process) return os_error("open client process");
    return ClientMemory(std::move(process));
}

Result<void> ClientMemory::map_huge(uint64_t address, uint64_t length_bytes) const {
    constexpr int kCollapse = 25;  // MADV_COLLAPSE, which this libc does not know
    iovec range{reinterpret_cast<void*>(address), length_bytes};
    if (::syscall(SYS_process_madvise, process_.get(), &range, 1, kCollapse, 0) < 0)
        return os_error("map huge pages");
    return {};
}

}  // namespace tierd
