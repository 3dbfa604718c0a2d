// pages_bench.cc - how fast pages change their node: by lib/migrate as the daemon uses it, by the kernel's call alone, beside
// copying as many bytes from node to node; and what looking them up costs. Lines of JSON. For the guest, and for machines with
// several nodes; its arguments are two nodes.
//
// Owns:      the memory it moves, 32 MiB of each kind on each node; a mount that nobody else sees for long.
// Fails:     exit status 77 and a line where the pages can't be had.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/migrate/move.h"

using namespace tierd;

namespace {

constexpr uint64_t kBytes = 32 * kMiB, kExtentBytes = 2 * kMiB, kBatchBytes = 8 * kMiB;
constexpr int kRuns = 5;

enum class Kind { small, thp, hugetlb };
constexpr const char* kKindNames[] = {"4k", "thp", "hugetlb"};

struct Pages {
    Fd file;
    Mapping mapping;
    uint64_t page_bytes = 4096;  // as lib/arena says it of such memory
    uint64_t folio_bytes = 4096;
};

// Huge pages for what lies on the node and for what comes over, and some to spare.
void reserve_huge_pages(int node) {
    std::ofstream("/sys/devices/system/node/node" + std::to_string(node) +
                  "/hugepages/hugepages-2048kB/nr_hugepages")
        << 4 * kBytes / kExtentBytes;
}

// A file in a tmpfs of its own, which takes huge pages whatever the system's setting is.
Fd make_thp_file() {
    char folder[] = "/tmp/pages-bench.XXXXXX";
    if (::mkdtemp(folder) == nullptr) return Fd();
    Fd file;
    if (::mount("tmpfs", folder, "tmpfs", 0, "huge=always") == 0) {
        file = Fd(::open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        ::umount2(folder, MNT_DETACH);
    }
    ::rmdir(folder);
    return file;
}

Fd make_file(Kind kind) {
    if (kind == Kind::thp) return make_thp_file();
    unsigned huge = kind == Kind::hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0u;
    return Fd(::memfd_create("pages-bench", MFD_CLOEXEC | huge));
}

// Zero-filled pages on a node; empty where there are none.
Pages make_pages(int node, Kind kind) {
    Pages pages{make_file(kind), {}};
    if (kind == Kind::hugetlb) pages.page_bytes = kExtentBytes;
    if (kind != Kind::small) pages.folio_bytes = kExtentBytes;
    if (!pages.file || ::ftruncate(pages.file.get(), kBytes) != 0) return pages;
    void* room = ::mmap(nullptr, kBytes + kExtentBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void* aligned = reinterpret_cast<void*>(round_up(reinterpret_cast<uint64_t>(room), kExtentBytes));
    void* at = ::mmap(aligned, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pages.file.get(), 0);
    if (at == MAP_FAILED) return pages;
    Mapping mapping(at, kBytes);
    PreferNode prefer(node);
    if (::madvise(at, kBytes, MADV_POPULATE_WRITE) != 0) return pages;
    pages.mapping = std::move(mapping);
    return pages;
}

double per_s(uint64_t begun_ns) {
    return static_cast<double>(kBytes) * 1e9 / static_cast<double>(monotonic_ns() - begun_ns);
}

// As the daemon moves extents: several in a call. 0: not all of them moved.
double move_bytes_per_s(const Pages& pages, int from, int to) {
    uint64_t begun_ns = monotonic_ns();
    for (uint64_t at = 0; at < kBytes; at += kBatchBytes) {
        std::vector<MoveRequest> batch;
        for (uint64_t extent = at; extent < at + kBatchBytes; extent += kExtentBytes)
            batch.push_back({.range = {pages.mapping.data() + extent, kExtentBytes, pages.page_bytes},
                             .to = {to},
                             .from = {from}});
        for (const MoveResult& result : migrate_pages(batch, {}))
            if (result.outcome != MoveOutcome::moved || result.moved_bytes != kExtentBytes) return 0;
    }
    return per_s(begun_ns);
}

// The kernel's part alone: all in one call, nothing looked at before or after.
double kernel_bytes_per_s(const Pages& pages, int to) {
    std::vector<void*> folios;
    for (uint64_t at = 0; at < kBytes; at += pages.folio_bytes) folios.push_back(pages.mapping.data() + at);
    std::vector<int> nodes(folios.size(), to), told(folios.size());
    uint64_t begun_ns = monotonic_ns();
    if (!move_pages_to(folios, nodes, told)) return 0;
    return per_s(begun_ns);
}

double copy_bytes_per_s(const Pages& from, const Pages& to) {
    uint64_t begun_ns = monotonic_ns();
    std::memcpy(to.mapping.data(), from.mapping.data(), kBytes);
    return per_s(begun_ns);
}

// Where the pages are, as each move asks twice.
double look_bytes_per_s(const Pages& pages) {
    uint64_t begun_ns = monotonic_ns();
    if (!find_pages({pages.mapping.data(), kBytes, pages.page_bytes})) return 0;
    return per_s(begun_ns);
}

}  // namespace

int main(int argc, char** argv) {
    int from = argc > 2 ? std::atoi(argv[1]) : 0, to = argc > 2 ? std::atoi(argv[2]) : 2;
    for (int node : {from, to}) reserve_huge_pages(node);
    for (Kind kind : {Kind::small, Kind::thp, Kind::hugetlb}) {
        const char* name = kKindNames[static_cast<int>(kind)];
        Pages moved = make_pages(from, kind), copied = make_pages(from, kind), fresh = make_pages(to, kind);
        if (moved.mapping.data() == nullptr || copied.mapping.data() == nullptr ||
            fresh.mapping.data() == nullptr) {
            std::printf("no %s pages on nodes %d and %d\n", name, from, to);
            return 77;
        }
        for (int run = 0; run < kRuns; run++) {
            double ours = move_bytes_per_s(moved, from, to);
            (void)move_bytes_per_s(moved, to, from);
            double kernel = kernel_bytes_per_s(moved, to);
            (void)kernel_bytes_per_s(moved, from);
            double copy = copy_bytes_per_s(copied, fresh), look = look_bytes_per_s(moved);
            std::printf(
                "{\"pages\": \"%s\", \"move\": %.0f, \"kernel\": %.0f, \"copy\": %.0f, \"look\": %.0f}\n",
                name, ours, kernel, copy, look);
        }
    }
    return 0;
}
