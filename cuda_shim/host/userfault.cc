#include "cuda_shim/host/userfault.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cuda_shim/host/owned_fd.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

static constexpr uint64_t kNeeded = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
static constexpr uint64_t kProtection = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
static constexpr uint64_t kWanted = kNeeded | kProtection | UFFD_FEATURE_THREAD_ID |
                                    UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;

static long make_raw(int device) {
    if (device >= 0)
        return sys::call(SYS_ioctl, device, USERFAULTFD_IOC_NEW, static_cast<long>(O_CLOEXEC | O_NONBLOCK));
    return sys::call(SYS_userfaultfd, static_cast<int>(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
}

// What this kernel can. Asking settles a descriptor's features, so it costs one of its own.
static long supported_features(int device, uint64_t* features) {
    long fd = make_raw(device);
    if (sys::failed(fd)) return fd;
    uffdio_api api{UFFD_API, 0, 0};
    long asked = sys::ioctl(static_cast<int>(fd), UFFDIO_API, &api);
    sys::close(static_cast<int>(fd));
    *features = api.features;
    return asked;
}

long make_userfaultfd(int device, bool* can_protect) {
    uint64_t features = 0;
    long asked = supported_features(device, &features);
    if (sys::failed(asked)) return asked;
    if ((features & kNeeded) != kNeeded) return -EOPNOTSUPP;
    long fd = make_raw(device);
    if (sys::failed(fd)) return fd;
    uffdio_api api{UFFD_API, features & kWanted, 0};
    long settled = sys::ioctl(static_cast<int>(fd), UFFDIO_API, &api);
    if (sys::failed(settled)) {
        sys::close(static_cast<int>(fd));
        return settled;
    }
    *can_protect = (features & kProtection) == kProtection;
    return fd;
}

bool is_userfaultfd(int fd) {
    constexpr char kName[] = "anon_inode:[userfaultfd]";
    char name[sizeof kName + 1];
    return name_of(fd, name, sizeof name) && ::strcmp(name, kName) == 0;
}

long uffd_register(int uffd, uint64_t begin, uint64_t end, bool write_protect) {
    uffdio_register request{};
    request.range = {begin, end - begin};
    request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
    if (write_protect) request.mode |= UFFDIO_REGISTER_MODE_WP;
    return sys::ioctl(uffd, UFFDIO_REGISTER, &request);
}

long uffd_unregister(int uffd, uint64_t begin, uint64_t end) {
    uffdio_range range{begin, end - begin};
    return sys::ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

void uffd_wake(int uffd, uint64_t begin, uint64_t end) {
    uffdio_range range{begin, end - begin};
    sys::ioctl(uffd, UFFDIO_WAKE, &range);
}

static void set_protection(int uffd, uint64_t begin, uint64_t end, uint64_t mode) {
    uffdio_writeprotect request{};
    request.range = {begin, end - begin};
    request.mode = mode;
    // EAGAIN: another thread changes mappings at this moment.
    for (int patience = 1000; patience > 0; patience--)
        if (sys::ioctl(uffd, UFFDIO_WRITEPROTECT, &request) != -EAGAIN) return;
}

void uffd_protect(int uffd, uint64_t begin, uint64_t end) {
    set_protection(uffd, begin, end, UFFDIO_WRITEPROTECT_MODE_WP);
}

void uffd_unprotect(int uffd, uint64_t begin, uint64_t end) {
    set_protection(uffd, begin, end, 0);
}

long uffd_copy(int uffd, uint64_t address, const void* page) {
    uffdio_copy request{};
    request.dst = address;
    request.src = reinterpret_cast<uint64_t>(page);
    request.len = kPageBytes;
    long result = -EAGAIN;
    for (int patience = 1000; result == -EAGAIN && patience > 0; patience--)
        result = sys::ioctl(uffd, UFFDIO_COPY, &request);
    return result;
}

}  // namespace tierd::shim
