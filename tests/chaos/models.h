// models.h - the weight files of a chaos run: they appear, are replaced, change in place and vanish.
//
// Owns:      the files, and what each of their bytes should be.
// Invariant: while a command reads a model (a shared lock of Model::mutex), nobody writes into that file. After a change in
//            place a reader may see old pages, whole, for a moment: until Model::settled().
// Callers:   any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>

#include "tests/chaos/tally.h"
#include "tests/integration/harness.h"

namespace tierd::chaos {

using Dice = std::mt19937_64;

inline uint64_t between(Dice& dice, uint64_t least, uint64_t most) {
    return least + dice() % (most - least + 1);
}

// One file: the inode, not the name.
struct Model {
    std::string path;
    bool changes = false;  // in place, at times; so it is never mapped for writing
    uint64_t bytes = 0;
    std::shared_timed_mutex mutex;  // guards the file's bytes and what follows
    uint64_t seed = 0;
    uint64_t old_seed = 0;  // 0: it was never changed
    uint64_t changed_ns = 0;

    // No reader may see a page of the old bytes any more.
    bool settled(uint64_t now_ns) const;
};

class Library {
  public:
    Library(const itest::WorkDir& dir, Tally& tally, uint64_t seed);

    // Does one thing to one model.
    void disturb(Dice& dice);

    // A model whose name stands for it while `held` is locked, or null where the name is gone.
    std::shared_ptr<Model> pick(Dice& dice, std::shared_lock<std::shared_timed_mutex>& held);

  private:
    static constexpr size_t kSlots = 5;
    struct Slot {
        std::string path;
        bool changes = false;
        std::shared_timed_mutex mutex;  // guards the name and `model`
        std::shared_ptr<Model> model;   // null: vanished
    };
    std::shared_ptr<Model> make(const Slot& slot, Dice& dice);
    void replace(Slot& slot, Dice& dice);
    void change(Model& model, Dice& dice);

    Tally& tally_;
    std::array<Slot, kSlots> slots_;
};

}  // namespace tierd::chaos
