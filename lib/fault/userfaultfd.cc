#include "lib/fault/userfaultfd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "lib/base/bytes.h"

namespace tierd {

Result<Userfaultfd> Userfaultfd::adopt(Fd fd) {
    std::array<char, 64> target{};
    ssize_t length =
        ::readlink(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), target.data(), target.size());
    if (length <= 0 ||
        std::string_view(target.data(), static_cast<size_t>(length)) != "anon_inode:[userfaultfd]")
        return fail(Code::bad_input, "take the client's userfaultfd", {},
                    "the descriptor is not a userfaultfd");
    int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return os_error("make userfaultfd non-blocking");
    return Userfaultfd(std::move(fd));
}

std::span<Fault> Userfaultfd::read(std::span<Fault> into) {
    std::array<uffd_msg, 64> messages;
    size_t want = std::min(into.size(), messages.size());
    // The client shares our file description and could clear O_NONBLOCK at any time: RWF_NOWAIT does not
    // depend on it.
    iovec vector{messages.data(), want * sizeof(uffd_msg)};
    ssize_t got = ::preadv2(fd_.get(), &vector, 1, -1, RWF_NOWAIT);
    if (got < 0 && errno == EOPNOTSUPP) got = ::read(fd_.get(), messages.data(), want * sizeof(uffd_msg));
    if (got <= 0) return into.first(0);
    size_t filled = 0;
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uffd_msg); i++) {
        const uffd_msg& message = messages[i];
        if (message.event != UFFD_EVENT_PAGEFAULT) continue;
        uint64_t flags = message.arg.pagefault.flags;
        into[filled++] = Fault{.address = message.arg.pagefault.address,
                               .thread = message.arg.pagefault.feat.ptid,
                               .minor = (flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0,
                               .write_protect = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0,
                               .write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0};
    }
    return into.first(filled);
}

// One UFFDIO_CONTINUE. Returns the bytes mapped, or a negative errno when none was.
static int64_t continue_once(int fd, uint64_t address, uint64_t length_bytes) {
    uffdio_continue request{};
    request.range = {address, length_bytes};
    if (::ioctl(fd, UFFDIO_CONTINUE, &request) == 0) return static_cast<int64_t>(length_bytes);
    int error = errno;
    return request.mapped > 0 ? request.mapped : -error;
}

// True when the touched page and the one behind it are mapped, now that the first has been asked for: then so is the
// rest. One page alone is missing where its next touch was to be seen.
bool Userfaultfd::is_mapped_but_for(uint64_t touched, uint64_t end) {
    constexpr uint64_t kPage = 4 * kKiB;
    int64_t got = continue_once(fd_.get(), touched, kPage);
    if (got <= 0) return got == -EEXIST;
    return touched + kPage < end && continue_once(fd_.get(), touched + kPage, kPage) == -EEXIST;
}

Mapped Userfaultfd::continue_range(uint64_t address, uint64_t length_bytes, uint64_t touched) {
    constexpr uint64_t kPage = 4 * kKiB;
    const uint64_t begin = address, end = address + length_bytes;
    bool skipped = false;
    // A hostile client can keep its address space "changing" for ever; an honest one is done in a few rounds.
    int patience = 1000;
    while (address < end) {
        int64_t got = continue_once(fd_.get(), address, end - address);
        if (got > 0) {
            address += static_cast<uint64_t>(got);
        } else if (got == -EEXIST) {
            // Mapped already: by an earlier fault of another thread, or a page that the client wrote and
            // owns. A call for the touched page alone shows which, without trying hundreds of pages.
            if (!skipped && is_mapped_but_for(round_down(touched, kPage), end)) break;
            address += kPage;
            skipped = true;
        } else if (got != -EAGAIN || patience-- == 0) {
            return got == -EFAULT ? Mapped::not_filled : Mapped::gone;
        }
    }
    wake(begin, length_bytes);
    return Mapped::done;
}

Mapped Userfaultfd::continue_page(uint64_t address) {
    constexpr uint64_t kPage = 4 * kKiB;
    const uint64_t page = round_down(address, kPage);
    for (int patience = 1000; patience > 0; patience--) {
        int64_t got = continue_once(fd_.get(), page, kPage);
        if (got > 0) return Mapped::done;  // which woke the waiters too
        if (got == -EEXIST) {
            wake(page, kPage);
            return Mapped::done;
        }
        if (got != -EAGAIN) return got == -EFAULT ? Mapped::not_filled : Mapped::gone;
    }
    return Mapped::gone;
}

void Userfaultfd::wake(uint64_t address, uint64_t length_bytes) {
    uffdio_range range{address, length_bytes};
    ::ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

}  // namespace tierd
