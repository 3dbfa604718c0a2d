#include "lib/policy/extent_lists.h"

namespace tierd {

void ExtentLists::reserve_rows(size_t rows) {
    if (rows > links_.size()) links_.resize(rows);
}

ExtentLists::List ExtentLists::take_block() {
    if (!free_blocks_.empty()) {
        List first = free_blocks_.back();
        free_blocks_.pop_back();
        return first;
    }
    auto first = static_cast<List>(ends_.size());
    ends_.resize(ends_.size() + lists_per_block_);
    return first;
}

void ExtentLists::give_block(List first) {
    free_blocks_.push_back(first);
}

void ExtentLists::weigh(ExtentId row, uint32_t bytes) {
    if (row < links_.size() && links_[row].list == kNoList) links_[row].bytes = bytes;
}

void ExtentLists::push_back(List list, ExtentId row) {
    if (row >= links_.size()) return;
    remove(row);
    Ends& ends = ends_[list];
    links_[row] = {ends.tail, kNoExtent, list, links_[row].bytes};
    (ends.tail == kNoExtent ? ends.head : links_[ends.tail].next) = row;
    ends.tail = row;
    ++ends.size;
    ends.bytes += links_[row].bytes;
}

void ExtentLists::remove(ExtentId row) {
    if (row >= links_.size() || links_[row].list == kNoList) return;
    Link link = links_[row];
    Ends& ends = ends_[link.list];
    (link.previous == kNoExtent ? ends.head : links_[link.previous].next) = link.next;
    (link.next == kNoExtent ? ends.tail : links_[link.next].previous) = link.previous;
    --ends.size;
    ends.bytes -= link.bytes;
    links_[row] = Link{.bytes = link.bytes};
}

}  // namespace tierd
