#include "lib/engine/client.h"

#include <algorithm>

namespace tierd {

AddressRange range_of(const Region& region, ExtentId id) {
    uint64_t begin = std::max(region.file->offset_of(id), region.offset_bytes);
    uint64_t end = std::min(region.file->offset_of(id) + region.file->memory_of(id),
                            region.offset_bytes + region.length_bytes);
    if (begin >= end) return {};
    return {region.address + (begin - region.offset_bytes), end - begin};
}

const Region* Client::find(uint64_t address) const {
    auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                  [](uint64_t a, const Region& region) { return a < region.address; });
    if (after == regions.begin()) return nullptr;
    const Region& region = *std::prev(after);
    return address < region.end() ? &region : nullptr;
}

void Client::add_region(Region region) {
    cut(region.address, region.length_bytes);
    auto at = std::upper_bound(regions.begin(), regions.end(), region.address,
                               [](uint64_t a, const Region& other) { return a < other.address; });
    regions.insert(at, std::move(region));
}

void Client::cut(uint64_t address, uint64_t length_bytes) {
    const uint64_t end = address + length_bytes;
    std::vector<Region> kept;
    kept.reserve(regions.size() + 1);
    for (Region& region : regions) {
        if (region.end() <= address || region.address >= end) {
            kept.push_back(std::move(region));
            continue;
        }
        if (region.address < address) {
            Region head = region;
            head.length_bytes = address - region.address;
            kept.push_back(std::move(head));
        }
        if (region.end() > end) {
            Region tail = region;
            tail.offset_bytes += end - region.address;
            tail.length_bytes = region.end() - end;
            tail.address = end;
            kept.push_back(std::move(tail));
        }
    }
    regions = std::move(kept);
}

std::vector<AddressRange> Client::cut_ordered(const FallBackCommand& order) {
    std::vector<AddressRange> pieces;
    for (const Region& region : regions) {
        if (order.file == 0) {
            pieces.push_back({region.address, region.length_bytes});
            continue;
        }
        if (region.file->number != order.file) continue;
        uint64_t begin = std::max(order.offset_bytes, region.offset_bytes);
        uint64_t end =
            std::min(order.offset_bytes + order.length_bytes, region.offset_bytes + region.length_bytes);
        if (begin < end) pieces.push_back({region.address + (begin - region.offset_bytes), end - begin});
    }
    for (const AddressRange& piece : pieces) cut(piece.address, piece.length_bytes);
    return pieces;
}

bool Client::leaving(uint64_t address) const {
    auto inside = [&](const AddressRange& range) {
        return address >= range.address && address - range.address < range.length_bytes;
    };
    return std::any_of(commands.begin(), commands.end(), [&](auto& sent) {
        return std::any_of(sent.second.leaving.begin(), sent.second.leaving.end(), inside);
    });
}

bool Client::maps(uint64_t file) const {
    return std::any_of(regions.begin(), regions.end(),
                       [&](const Region& r) { return r.file->number == file; });
}

}  // namespace tierd
