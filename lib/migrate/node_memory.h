// node_memory.h - which memory node pages are on, and moving them to another: thin wrappers of the NUMA system calls.
//
// Owns:      nothing; PreferNode holds the calling thread's memory policy for its own lifetime.
// Invariant: a page's node is what the kernel reported after the last call on it; the result of a whole call is never
//            taken for the result of one page.
// Callers:   any thread. Moving copies the pages: about 0.2 to 1 ms for 2 MiB.
// Fails:     with the errno of move_pages(2) or madvise(2).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "lib/base/result.h"

namespace tierd {

// A piece of this process's memory, whole pages.
struct PageRange {
    char* at = nullptr;
    uint64_t length_bytes = 0;
    uint64_t page_bytes = 4096;  // the size of its smallest pages

    size_t pages() const { return length_bytes / page_bytes; }
};

// Where the pages of a range are.
struct PagesByNode {
    std::map<int, uint64_t> bytes_on;  // node → bytes
    uint64_t absent_bytes = 0;         // not in this process's page table, or not in memory

    uint64_t bytes_off(std::span<const int> nodes) const;  // in memory, but on none of them
};

// By which pages the range is mapped here: 2 MiB where all of it is mapped by huge entries of the page table, each of
// which is whole on one node; else its own page size. Empty if the kernel can't report it (before 6.7).
std::optional<uint64_t> mapped_page_bytes(const PageRange& range);

// Asks the kernel for the node of each page, or a negative errno; moves nothing. Pages that are in memory but that this
// process has not mapped count as absent (-ENOENT): map_pages() first. `nodes` has room for range.pages().
Result<void> find_nodes(const PageRange& range, std::span<int> nodes);
// The same, summed up; huge entries are asked for once.
Result<PagesByNode> find_pages(const PageRange& range);

// Makes this process's page table show the range. Errors: gone where not all of it is in memory; it is left alone
// then, since a touch would fill the hole with zeros. No thread may punch a hole meanwhile.
Result<void> map_pages(const PageRange& range);

// Asks for the page at each address to be moved to the node at the same index, pages that other processes have mapped
// too where this process may (CAP_SYS_NICE). status[i] is then the kernel's result for page i: a node, a negative
// errno, or -EAGAIN if it gave none. It is not the page's location: use find_nodes(). Errors: what
// refused the call as a whole.
Result<void> move_pages_to(std::span<void*> pages, std::span<const int> nodes, std::span<int> status);

// While it lives, fresh pages that this thread makes come from one node where it has any left, whichever way they are
// made: by touching a mapping or by write(2) into a memory file. Not a binding: a full node must not have anybody
// killed. Kept by the thread and not with the range (mbind), which would cut the mapping into as many pieces as there
// are extents, and the kernel allows 65530.
class PreferNode {
  public:
    explicit PreferNode(int node) noexcept;  // negative: changes nothing
    ~PreferNode();
    PreferNode(const PreferNode&) = delete;
    PreferNode& operator=(const PreferNode&) = delete;

  private:
    bool set_ = false;
};

}  // namespace tierd
