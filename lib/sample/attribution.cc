#include "lib/sample/attribution.h"

#include <algorithm>

namespace tierd {

namespace {

bool holds(const SampledMapping& mapping, uint64_t address, uint64_t time_ns) {
    return address >= mapping.address && address < mapping.end() && time_ns >= mapping.since_ns &&
           time_ns < mapping.until_ns;
}

auto first_behind(const std::vector<SampledMapping>& mappings, uint64_t address) {
    return std::upper_bound(mappings.begin(), mappings.end(), address,
                            [](uint64_t a, const SampledMapping& m) { return a < m.address; });
}

Place place_in(const SampledMapping& mapping, uint64_t address) {
    Place place{.found = Found::yes, .file = mapping.file.get()};
    place.offset_bytes = mapping.offset_bytes + (address - mapping.address);
    const ExtentLayout& layout = mapping.file->layout;
    if (layout.count() == 0 || place.offset_bytes >= layout.begin(layout.count()))
        return {.found = Found::other_address};
    place.extent = layout.index_at(place.offset_bytes);
    return place;
}

}  // namespace

Place AddressMap::find(uint32_t pid, uint64_t address, uint64_t time_ns) const {
    auto known = processes_.find(pid);
    if (known == processes_.end()) return {.found = Found::other_process};
    const Process& process = *known->second;
    auto live = first_behind(process.live, address);
    if (live != process.live.begin() && holds(*std::prev(live), address, time_ns))
        return place_in(*std::prev(live), address);
    for (auto ended = first_behind(process.ended, address); ended != process.ended.begin();) {
        --ended;
        if (address - ended->address >= process.longest_ended_bytes) break;
        if (holds(*ended, address, time_ns)) return place_in(*ended, address);
    }
    return {.found = time_ns >= process.ended_ns ? Found::ended_process : Found::other_address};
}

void MappingHistory::cut(Process& process, uint64_t begin, uint64_t end, uint64_t now_ns) {
    auto at = process.live.upper_bound(begin);
    if (at != process.live.begin() && std::prev(at)->second.end() > begin) --at;
    while (at != process.live.end() && at->second.address < end) {
        SampledMapping was = at->second;
        at = process.live.erase(at);
        SampledMapping gone = was;
        gone.until_ns = now_ns;
        if (was.address < begin) {
            SampledMapping head = was;
            head.length_bytes = begin - was.address;
            process.live[head.address] = head;
            gone.address = begin;
            gone.offset_bytes += head.length_bytes;
            gone.length_bytes -= head.length_bytes;
        }
        if (was.end() > end) {
            SampledMapping tail = was;
            tail.offset_bytes += end - was.address;
            tail.address = end;
            tail.length_bytes = was.end() - end;
            process.live[end] = tail;
            gone.length_bytes -= tail.length_bytes;
        }
        process.ended.push_back(std::move(gone));
    }
    process.changed = true;
}

void MappingHistory::add(uint32_t pid, SampledMapping mapping) {
    if (mapping.length_bytes == 0 || mapping.address > UINT64_MAX - mapping.length_bytes) return;
    Process& process = processes_[pid];
    if (process.ended_ns != UINT64_MAX) process.ended_ns = UINT64_MAX;  // the number was given again
    cut(process, mapping.address, mapping.end(), mapping.since_ns);
    process.live[mapping.address] = std::move(mapping);
}

void MappingHistory::remove(uint32_t pid, uint64_t address, uint64_t length_bytes, uint64_t now_ns) {
    auto known = processes_.find(pid);
    if (known == processes_.end()) return;
    uint64_t end = length_bytes > UINT64_MAX - address ? UINT64_MAX : address + length_bytes;
    cut(known->second, address, end, now_ns);
}

void MappingHistory::end_process(uint32_t pid, uint64_t now_ns) {
    auto known = processes_.find(pid);
    if (known == processes_.end()) return;
    cut(known->second, 0, UINT64_MAX, now_ns);
    known->second.ended_ns = now_ns;
}

void MappingHistory::fork(uint32_t parent, uint32_t child, uint64_t now_ns) {
    auto known = processes_.find(parent);
    if (known == processes_.end() || parent == child) return;
    std::map<uint64_t, SampledMapping> live = known->second.live;
    for (auto& [address, mapping] : live) {
        mapping.since_ns = now_ns;
        add(child, mapping);
    }
}

void MappingHistory::forget_old(uint64_t now_ns) {
    if (keep_all_) return;
    auto is_old = [&](uint64_t ended_ns) { return ended_ns < now_ns && now_ns - ended_ns > kKeepEndedNs; };
    for (auto& [pid, process] : processes_)
        if (std::erase_if(process.ended, [&](const SampledMapping& m) { return is_old(m.until_ns); }) > 0)
            process.changed = true;
    std::erase_if(processes_, [&](auto& entry) { return is_old(entry.second.ended_ns); });
}

std::shared_ptr<const AddressMap::Process> MappingHistory::build(const Process& process) {
    auto built = std::make_shared<AddressMap::Process>();
    built->live.reserve(process.live.size());
    for (auto& [address, mapping] : process.live) built->live.push_back(mapping);
    built->ended = process.ended;
    std::ranges::sort(built->ended, {}, &SampledMapping::address);
    for (const SampledMapping& mapping : built->ended)
        built->longest_ended_bytes = std::max(built->longest_ended_bytes, mapping.length_bytes);
    built->ended_ns = process.ended_ns;
    return built;
}

std::shared_ptr<const AddressMap> MappingHistory::publish(uint64_t now_ns) {
    forget_old(now_ns);
    auto map = std::make_shared<AddressMap>();
    map->as_of_ns_ = now_ns;
    for (auto& [pid, process] : processes_) {
        if (process.changed) process.built = build(process);
        process.changed = false;
        map->processes_[pid] = process.built;
    }
    return map;
}

const Tensor* tensor_at(const TensorMap& map, uint64_t offset_bytes) {
    auto after =
        std::upper_bound(map.tensors.begin(), map.tensors.end(), offset_bytes,
                         [](uint64_t offset, const Tensor& tensor) { return offset < tensor.begin_bytes; });
    if (after == map.tensors.begin()) return nullptr;
    const Tensor& tensor = *std::prev(after);
    return offset_bytes < tensor.end_bytes ? &tensor : nullptr;
}

}  // namespace tierd
