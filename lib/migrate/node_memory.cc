#include "lib/migrate/node_memory.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "lib/base/bytes.h"
#include "lib/base/fd.h"

namespace tierd {

namespace {

constexpr size_t kMaxNodes = 1024;  // more than any kernel is built for
constexpr uint64_t kHugePage = 2 * kMiB;

// PAGEMAP_SCAN (Linux 6.7), which older headers do not have.
struct ScanArguments {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
    uint64_t inverted, all_of, any_of, returned;
};
struct ScanRegion {
    uint64_t start, end, categories;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr uint64_t kIsHuge = 1u << 6;

long move_pages(std::span<void*> pages, const int* nodes, int* status, int flags) {
    return ::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nodes, status, flags);
}

std::vector<void*> addresses_of(const PageRange& range) {
    std::vector<void*> pages(range.pages());
    for (size_t i = 0; i < pages.size(); i++) pages[i] = range.at + i * range.page_bytes;
    return pages;
}

}  // namespace

uint64_t PagesByNode::bytes_off(std::span<const int> nodes) const {
    uint64_t bytes = 0;
    for (auto& [node, there] : bytes_on)
        if (std::ranges::find(nodes, node) == nodes.end()) bytes += there;
    return bytes;
}

Result<void> find_nodes(const PageRange& range, std::span<int> nodes) {
    auto pages = addresses_of(range);
    std::ranges::fill(nodes, -ENOENT);
    if (move_pages(pages, nullptr, nodes.data(), 0) < 0) return os_error("find the node of pages");
    return {};
}

std::optional<uint64_t> mapped_page_bytes(const PageRange& range) {
    uint64_t begin = reinterpret_cast<uint64_t>(range.at), end = begin + range.length_bytes;
    if (range.page_bytes >= kHugePage || begin % kHugePage != 0 || end % kHugePage != 0)
        return range.page_bytes;
    // Opened each time: what is open shows the memory of the process that opened it, also after a fork.
    Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    ScanRegion huge{};
    ScanArguments scan{};
    scan.size = sizeof scan;
    scan.start = begin;
    scan.end = end;
    scan.regions = reinterpret_cast<uint64_t>(&huge);
    scan.region_count = 1;
    scan.all_of = scan.returned = kIsHuge;
    int found = ::ioctl(pagemap.get(), kPagemapScan, &scan);
    if (found < 0) return std::nullopt;
    return found == 1 && huge.start == begin && huge.end == end ? kHugePage : range.page_bytes;
}

Result<PagesByNode> find_pages(const PageRange& asked) {
    PageRange range = asked;
    range.page_bytes = mapped_page_bytes(asked).value_or(asked.page_bytes);
    std::vector<int> nodes(range.pages());
    if (auto found = find_nodes(range, nodes); !found) return std::unexpected(found.error());
    PagesByNode placement;
    for (int node : nodes) {
        if (node < 0)
            placement.absent_bytes += range.page_bytes;
        else
            placement.bytes_on[node] += range.page_bytes;
    }
    return placement;
}

// mincore(2) looks into the memory file without touching it. The pages of a hugetlb file have no such look-up; they are
// read in place, so they are mapped.
static bool all_in_memory(const PageRange& range) {
    constexpr uint64_t kPage = 4096;
    std::vector<unsigned char> there(range.length_bytes / kPage);
    if (::mincore(range.at, range.length_bytes, there.data()) != 0) return false;
    return std::ranges::all_of(there, [](unsigned char one) { return (one & 1) != 0; });
}

Result<void> map_pages(const PageRange& range) {
    if (!all_in_memory(range))
        return std::unexpected(Error{Code::gone, ENOENT, "map pages to be moved", {}, {}});
    if (::madvise(range.at, range.length_bytes, MADV_POPULATE_READ) != 0)
        return os_error("map pages to be moved");
    return {};
}

Result<void> move_pages_to(std::span<void*> pages, std::span<const int> nodes, std::span<int> status) {
    std::ranges::fill(status, -EAGAIN);
    // A positive return counts pages that were not moved and whose status was not written: no failure of the call.
    long failed = move_pages(pages, nodes.data(), status.data(), MPOL_MF_MOVE_ALL);
    // Without the privilege, at least pages that no other process has mapped.
    if (failed < 0 && errno == EPERM) failed = move_pages(pages, nodes.data(), status.data(), MPOL_MF_MOVE);
    if (failed < 0) return os_error("move pages");
    return {};
}

PreferNode::PreferNode(int node) noexcept {
    if (node < 0 || static_cast<size_t>(node) >= kMaxNodes) return;
    std::array<unsigned long, kMaxNodes / 64> mask{};
    mask[static_cast<size_t>(node) / 64] = 1ul << (node % 64);
    set_ = ::syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask.data(), kMaxNodes + 1) == 0;
}

PreferNode::~PreferNode() {
    if (set_) ::syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);
}

}  // namespace tierd
