// extents.h - every extent of every known file: its row, its file, its state, and how hot it is.
//
// Owns:      the extent table, which file has which slot, and the evidence of heat.
// Invariant: a state changes only by set_state(), along extent_states.h; a file's account (placed_file.h) agrees with its
//            rows.
// Callers:   the thread that owns the Placement.
// Fails:     a forbidden change of state ends the process: to go on could show a client wrong bytes, and a dead tierd sends
//            every session to the kernel's mapping.
#pragma once

#include <span>
#include <vector>

#include "lib/placement/placed_file.h"
#include "lib/policy/extent_table.h"
#include "lib/sample/heat.h"

namespace tierd {

class Extents {
  public:
    explicit Extents(ExtentTable table) : table_(std::move(table)) {}

    tierd_extent& operator[](ExtentId id) { return table_[id]; }
    bool is(ExtentId id, tierd_extent_state state) { return table_[id].state == state; }
    bool has_flag(ExtentId id, uint8_t flag) { return (table_[id].flags & flag) != 0; }
    void set_flag(ExtentId id, uint8_t flag, bool on);
    uint32_t size() const { return table_.size(); }
    std::span<tierd_extent> used() { return table_.used(); }
    ExtentTable& table() { return table_; }

    // Gives the file rows, from first_extent on. False: the table is full. The file must stay where it is until remove().
    bool take_rows(PlacedFile& file);
    void give_back_rows(const PlacedFile& file) { table_.give_back(file.first_extent, file.extent_count); }
    // Gives it a slot and fills its rows from `labels`, one an extent.
    void add(PlacedFile& file, std::span<const ExtentLabel> labels);
    void remove(PlacedFile& file);

    // The file that the row belongs to now, or null: queues and policies may name rows whose file is gone.
    PlacedFile* find(ExtentId id);
    // The same for an id that is known to have one.
    PlacedFile& file_of(ExtentId id) { return *slots_[table_[id].model]; }
    std::span<PlacedFile* const> slots() const { return slots_; }  // by slot; null: free

    void set_state(ExtentId id, tierd_extent_state next);

    HeatEstimator& heat() { return heat_; }
    // Mapped by one entry of the page table, for certain.
    bool is_huge(ExtentId id) const { return id < huge_.size() && huge_[id]; }
    void set_huge(ExtentId id, bool huge);

  private:
    ExtentTable table_;
    std::vector<PlacedFile*> slots_;
    HeatEstimator heat_;
    std::vector<bool> huge_;
};

}  // namespace tierd
