#include "lib/sample/hot.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace tierd {

namespace {

int number_or_none(uint16_t number, uint16_t none) {
    return number == none ? -1 : number;
}

HotRow row_of(const std::string& model, const Tensor& tensor) {
    HotRow row;
    row.model = model;
    row.name = tensor.name;
    row.layer = number_or_none(tensor.layer, TIERD_NO_LAYER);
    row.expert = number_or_none(tensor.expert, TIERD_NO_EXPERT);
    row.bytes = tensor.end_bytes - tensor.begin_bytes;
    return row;
}

// The tensor's share of what its extents have.
void add_heat(const ExtentLayout& layout, std::span<const ExtentHeat> extents, const Tensor& tensor,
              HotRow& row) {
    double samples = 0;
    for (uint64_t at = tensor.begin_bytes; at < tensor.end_bytes && at < layout.begin(layout.count());) {
        uint32_t index = layout.index_at(at);
        uint64_t stop = std::min(tensor.end_bytes, layout.begin(index + 1));
        double share = static_cast<double>(stop - at) / static_cast<double>(layout.bytes(index));
        row.heat += extents[index].heat * share;
        samples += static_cast<double>(extents[index].samples) * share;
        at = stop;
    }
    row.samples = static_cast<uint64_t>(samples + 0.5);
}

std::vector<HotRow> rows_by_extent(const std::string& model, const ExtentLayout& layout, const TensorMap& map,
                                   std::span<const ExtentHeat> extents) {
    auto labels = label_extents(map, layout);
    std::vector<HotRow> rows;
    for (uint32_t index = 0; index < extents.size(); index++) {
        HotRow row;
        row.model = model;
        row.name = fmt::format("extent {}", index);
        row.offset_bytes = layout.begin(index);
        row.layer = number_or_none(labels[index].layer, TIERD_NO_LAYER);
        row.expert = number_or_none(labels[index].expert, TIERD_NO_EXPERT);
        row.bytes = layout.bytes(index);
        row.heat = extents[index].heat;
        row.samples = extents[index].samples;
        row.node = extents[index].node;
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<HotRow> grouped(const std::vector<HotRow>& tensors, bool experts) {
    std::map<std::pair<int, int>, HotRow> groups;
    for (const HotRow& tensor : tensors) {
        HotRow& group = groups[{tensor.layer, experts ? tensor.expert : -1}];
        group.model = tensor.model;
        group.layer = tensor.layer;
        group.expert = experts ? tensor.expert : -1;
        group.bytes += tensor.bytes;
        group.heat += tensor.heat;
        group.samples += tensor.samples;
    }
    std::vector<HotRow> rows;
    for (auto& [key, row] : groups) rows.push_back(std::move(row));
    return rows;
}

}  // namespace

std::optional<HotBy> hot_by(std::string_view word) noexcept {
    constexpr std::pair<std::string_view, HotBy> kWords[] = {
        {"tensor", HotBy::tensor}, {"layer", HotBy::layer},       {"expert", HotBy::expert},
        {"extent", HotBy::extent}, {"function", HotBy::function}, {"thread", HotBy::thread}};
    for (auto& [name, by] : kWords)
        if (name == word) return by;
    return std::nullopt;
}

void sort_hot(std::vector<HotRow>& rows) {
    std::ranges::sort(rows, [](const HotRow& one, const HotRow& other) {
        if (one.heat != other.heat) return one.heat > other.heat;
        return std::tie(one.name, one.layer, one.expert, one.offset_bytes) <
               std::tie(other.name, other.layer, other.expert, other.offset_bytes);
    });
}

std::vector<HotRow> hot_rows(const std::string& model, const ExtentLayout& layout, const TensorMap& map,
                             std::span<const ExtentHeat> extents, HotBy by) {
    std::vector<HotRow> rows;
    if (by == HotBy::extent) {
        rows = rows_by_extent(model, layout, map, extents);
    } else {
        for (const Tensor& tensor : map.tensors) {
            rows.push_back(row_of(model, tensor));
            add_heat(layout, extents, tensor, rows.back());
        }
        if (by != HotBy::tensor) rows = grouped(rows, by == HotBy::expert);
    }
    sort_hot(rows);
    return rows;
}

void Readers::add(const std::string& model, const CodePlace& code, uint32_t pid, uint32_t tid, int node,
                  double accesses) {
    bool full = code_.size() >= kMostRows;
    Count& count = code_[{model, full ? CodePlace{"[others]", 0} : code}];
    count.accesses += accesses;
    count.samples++;
    add_thread(model, pid, tid, node, accesses);
}

void Readers::add_thread(const std::string& model, uint32_t pid, uint32_t tid, int node, double accesses) {
    bool full = threads_.size() >= kMostRows;
    Count& count = threads_[{model, full ? ThreadPlace{} : ThreadPlace{pid, tid, node}}];
    count.accesses += accesses;
    count.samples++;
}

void Readers::decay(double factor) {
    auto decay = [factor](auto& counts) {
        for (auto& [key, count] : counts) count.accesses *= factor;
        std::erase_if(counts, [](auto& entry) { return entry.second.accesses < 0.01; });
    };
    decay(code_);
    decay(threads_);
}

std::vector<HotRow> Readers::rows(HotBy by) const {
    std::vector<HotRow> rows;
    auto add_row = [&](const std::string& model, const Count& count) -> HotRow& {
        HotRow& row = rows.emplace_back();
        row.model = model;
        row.heat = count.accesses;
        row.samples = count.samples;
        return row;
    };
    if (by == HotBy::thread) {
        for (auto& [key, count] : threads_) {
            HotRow& row = add_row(key.first, count);
            const ThreadPlace& thread = key.second;
            row.name = thread.pid == 0 ? "[others]" : fmt::format("{}/{}", thread.pid, thread.tid);
            row.node = thread.node;
        }
    } else {
        for (auto& [key, count] : code_) {
            HotRow& row = add_row(key.first, count);
            row.object = key.second.object;
            row.offset_bytes = key.second.offset_bytes;
        }
    }
    sort_hot(rows);
    return rows;
}

}  // namespace tierd
