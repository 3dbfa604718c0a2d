#include "tests/chaos/models.h"

#include <filesystem>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd::chaos {
namespace {

using namespace std::chrono_literals;

// Tierd hears of a change by inotify and orders the sessions back; a stopped tierd is left after half a second. All the
// rest is for a machine that has no time.
constexpr uint64_t kSettlesNs = 10 * kNsPerSecond;

}  // namespace

bool Model::settled(uint64_t now_ns) const {
    return old_seed == 0 || now_ns - changed_ns > kSettlesNs;
}

Library::Library(const itest::WorkDir& dir, Tally& tally, uint64_t seed) : tally_(tally) {
    Dice dice(seed);
    for (size_t i = 0; i < kSlots; i++) {
        slots_[i].path = dir.file("model-" + std::to_string(i) + ".weights");
        slots_[i].changes = i >= kSlots - 2;
        slots_[i].model = make(slots_[i], dice);
    }
}

// Made beside its name and then put in place: under a name there is always a whole file.
std::shared_ptr<Model> Library::make(const Slot& slot, Dice& dice) {
    auto model = std::make_shared<Model>();
    model->path = slot.path;
    model->changes = slot.changes;
    model->seed = between(dice, 1, 1 << 20);
    // Some end in the middle of an extent and of a page.
    model->bytes = between(dice, 1, 10) * kMiB + between(dice, 0, 255) * 4 * kKiB + (dice() % 2 ? 3001 : 0);
    itest::make_file(slot.path + ".new", model->seed, model->bytes);
    std::filesystem::rename(slot.path + ".new", slot.path);
    return model;
}

void Library::replace(Slot& slot, Dice& dice) {
    std::unique_lock name(slot.mutex, 2s);
    if (!name) return;
    if (slot.model && dice() % 3 == 0) {
        std::filesystem::remove(slot.path);
        slot.model.reset();
        tally_.models_vanished++;
        return;
    }
    slot.model = make(slot, dice);
    tally_.models_replaced++;
}

void Library::change(Model& model, Dice& dice) {
    std::unique_lock bytes(model.mutex, 2s);
    if (!bytes || !model.settled(monotonic_ns())) return;
    model.old_seed = model.seed;
    model.seed = between(dice, 1, 1 << 20);
    itest::rewrite(model.path, model.seed, 0, model.bytes);
    model.changed_ns = monotonic_ns();
    tally_.models_changed++;
}

void Library::disturb(Dice& dice) {
    Slot& slot = slots_[dice() % kSlots];
    if (!slot.changes || dice() % 4 == 0) return replace(slot, dice);
    std::shared_lock name(slot.mutex);
    if (slot.model) change(*slot.model, dice);
}

std::shared_ptr<Model> Library::pick(Dice& dice, std::shared_lock<std::shared_timed_mutex>& held) {
    Slot& slot = slots_[dice() % kSlots];
    held = std::shared_lock(slot.mutex);
    return slot.model;
}

}  // namespace tierd::chaos
