#include "lib/placement/extents.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>

#include "lib/base/invariant.h"
#include "lib/placement/extent_states.h"
#include "lib/policy/row_links.h"

namespace tierd {

void Extents::set_flag(ExtentId id, uint8_t flag, bool on) {
    uint8_t& flags = table_[id].flags;
    flags = static_cast<uint8_t>(on ? flags | flag : flags & ~flag);
}

bool Extents::take_rows(PlacedFile& file) {
    auto rows = table_.take(file.extent_count);
    if (rows) file.first_extent = *rows;
    return rows.has_value();
}

void Extents::add(PlacedFile& file, std::span<const ExtentLabel> labels) {
    auto free_slot = std::find(slots_.begin(), slots_.end(), nullptr);
    file.slot = static_cast<uint32_t>(free_slot - slots_.begin());
    if (free_slot == slots_.end()) slots_.emplace_back();
    slots_[file.slot] = &file;
    for (uint32_t index = 0; index < file.extent_count; index++) {
        tierd_extent& row = table_[file.first_extent + index];
        row = {};
        row.model = static_cast<uint16_t>(file.slot);
        row.bytes = file.memory_of(file.first_extent + index);
        ExtentLabel label = index < labels.size() ? labels[index] : ExtentLabel{};
        row.layer = label.layer;
        row.expert = label.expert;
        row.role = label.role;
        if (row.layer != TIERD_NO_LAYER) file.layers = std::max(file.layers, row.layer + 1u);
        if (row.expert != TIERD_NO_EXPERT) file.experts = std::max(file.experts, row.expert + 1u);
    }
    link_rows(table_.used(), file.first_extent, file.extent_count, file.order);
}

void Extents::remove(PlacedFile& file) {
    invariant(file.resident_extents == 0 && file.busy_extents == 0, "its memory has been returned");
    give_back_rows(file);
    heat_.forget(file.first_extent, file.extent_count);
    slots_[file.slot] = nullptr;
}

PlacedFile* Extents::find(ExtentId id) {
    if (id >= table_.size()) return nullptr;
    uint32_t slot = table_[id].model;
    if (slot >= slots_.size() || slots_[slot] == nullptr) return nullptr;
    return slots_[slot]->contains(id) ? slots_[slot] : nullptr;
}

void Extents::set_state(ExtentId id, tierd_extent_state next) {
    tierd_extent& row = table_[id];
    if (!kMayFollow[row.state][next]) {
        spdlog::critical("extent {} can't go from state {} to {}", id, row.state, static_cast<int>(next));
        std::abort();
    }
    PlacedFile& file = file_of(id);
    if (row.state == TIERD_EXTENT_RESIDENT) {
        file.resident_extents--;
        file.resident_bytes -= row.bytes;
    }
    if (is_busy(row.state)) file.busy_extents--;
    row.state = next;
    if (row.state == TIERD_EXTENT_RESIDENT) {
        file.resident_extents++;
        file.resident_bytes += row.bytes;
    }
    if (is_busy(row.state)) file.busy_extents++;
    invariant(file.resident_extents + file.busy_extents <= file.extent_count,
              "a file has no more extents in a state than it has");
}

void Extents::set_huge(ExtentId id, bool huge) {
    if (huge && huge_.size() <= id) huge_.resize(table_.size());
    if (id < huge_.size()) huge_[id] = huge;
}

}  // namespace tierd
