// pages_bench.cc - how fast pages change their node, beside copying as many bytes from node to node: lines of JSON. For the
// guest, and for machines with several nodes; its arguments are two nodes.
//
// Owns:      the memory it moves, 32 MiB on each node.
// Fails:     exit status 77 and a line where the pages can't be had.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/migrate/move.h"

using namespace tierd;

namespace {

constexpr uint64_t kBytes = 32 * kMiB;
constexpr int kRuns = 5;

struct Pages {
    Fd file;
    Mapping mapping;
    uint64_t page_bytes = 4096;
};

// Huge pages for what lies on the node and for what comes over, and some to spare.
void reserve_huge_pages(int node) {
    std::ofstream("/sys/devices/system/node/node" + std::to_string(node) +
                  "/hugepages/hugepages-2048kB/nr_hugepages")
        << 4 * kBytes / (2 * kMiB);
}

// Zero-filled pages on a node; empty where there are none.
Pages make_pages(int node, uint64_t page_bytes) {
    bool huge = page_bytes > 4096;
    Pages pages{Fd(::memfd_create("pages-bench", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0u))),
                {},
                page_bytes};
    if (!pages.file || ::ftruncate(pages.file.get(), kBytes) != 0) return pages;
    void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, pages.file.get(), 0);
    if (at == MAP_FAILED) return pages;
    Mapping mapping(at, kBytes);
    PreferNode prefer(node);
    if (::madvise(at, kBytes, MADV_POPULATE_WRITE) != 0) return pages;
    pages.mapping = std::move(mapping);
    return pages;
}

double move_bytes_per_s(const Pages& pages, int from, int to) {
    MoveRequest request{
        .range = {pages.mapping.data(), kBytes, pages.page_bytes}, .to = {to}, .from = {from}};
    uint64_t begun_ns = monotonic_ns();
    MoveResult result = carry(std::span(&request, 1), {}).front();
    if (result.outcome != MoveOutcome::moved || result.moved_bytes != kBytes) return 0;
    return static_cast<double>(kBytes) * 1e9 / static_cast<double>(monotonic_ns() - begun_ns);
}

double copy_bytes_per_s(const Pages& from, const Pages& to) {
    uint64_t begun_ns = monotonic_ns();
    std::memcpy(to.mapping.data(), from.mapping.data(), kBytes);
    return static_cast<double>(kBytes) * 1e9 / static_cast<double>(monotonic_ns() - begun_ns);
}

}  // namespace

int main(int argc, char** argv) {
    int from = argc > 2 ? std::atoi(argv[1]) : 0, to = argc > 2 ? std::atoi(argv[2]) : 2;
    for (int node : {from, to}) reserve_huge_pages(node);
    for (uint64_t page_bytes : {uint64_t{4096}, 2 * kMiB}) {
        Pages moved = make_pages(from, page_bytes), copied = make_pages(from, page_bytes);
        Pages fresh = make_pages(to, page_bytes);
        if (moved.mapping.data() == nullptr || copied.mapping.data() == nullptr ||
            fresh.mapping.data() == nullptr) {
            std::printf("no pages of %llu bytes on nodes %d and %d\n",
                        static_cast<unsigned long long>(page_bytes), from, to);
            return 77;
        }
        for (int run = 0; run < kRuns; run++) {
            double there = move_bytes_per_s(moved, from, to), back = move_bytes_per_s(moved, to, from);
            double copy = copy_bytes_per_s(copied, fresh);
            std::printf("{\"page_bytes\": %llu, \"move\": %.0f, \"back\": %.0f, \"copy\": %.0f}\n",
                        static_cast<unsigned long long>(page_bytes), there, back, copy);
        }
    }
    return 0;
}
