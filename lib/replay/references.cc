#include "lib/replay/references.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tierd {
namespace {

class Reference : public Policy {
  public:
    explicit Reference(const Workload& workload) : score_(workload.extents) {}

    void model_open(const PolicyView&, const PolicyModel&) override {}
    void model_close(const PolicyView&, uint32_t) override {}
    void filled(const PolicyView&, ExtentId) override {}
    void evicted(const PolicyView&, ExtentId) override {}
    void epoch(const PolicyView&, PolicyDecisions&) override {}
    void fault(const PolicyView&, ExtentId extent, Touch, PolicyDecisions&) override {
        score_[extent] = score(extent);
    }
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override {
        if (!for_demand) return;
        std::vector<std::pair<uint64_t, ExtentId>> candidates;
        for (ExtentId extent = 0; extent < score_.size(); extent++)
            if (view.extents[extent].state == TIERD_EXTENT_RESIDENT)
                candidates.emplace_back(score_[extent], extent);
        std::ranges::make_heap(candidates, std::greater{});
        for (uint64_t bytes = 0; bytes < needed_bytes && !candidates.empty(); candidates.pop_back()) {
            std::ranges::pop_heap(candidates, std::greater{});
            out.evict.push_back(candidates.back().second);
            bytes += view.extents[candidates.back().second].bytes;
        }
    }

  protected:
    // Of an extent that is touched now.
    virtual uint64_t score(ExtentId extent) = 0;

  private:
    std::vector<uint64_t> score_;
};

class ReferenceLru final : public Reference {
  public:
    using Reference::Reference;
    std::string_view name() const override { return "lru"; }

  private:
    // Not the time: several touches may fall into one nanosecond.
    uint64_t score(ExtentId) override { return ++clock_; }
    uint64_t clock_ = 0;
};

class Belady final : public Reference {
  public:
    explicit Belady(const Workload& workload)
        : Reference(workload), following_(workload.order.size()), due_(workload.extents, kNever) {
        for (size_t place = workload.order.size(); place-- > 0;)
            following_[place] = std::exchange(due_[workload.order[place]], static_cast<uint32_t>(place));
    }
    std::string_view name() const override { return "optimum"; }

  private:
    static constexpr uint32_t kNever = UINT32_MAX;
    uint64_t score(ExtentId extent) override {
        uint32_t& place = due_[extent];  // of the touch that happens now
        if (place != kNever) place = following_[place];
        return kNever - place;
    }
    std::vector<uint32_t> following_;  // place in the trace → place of the same extent's next touch
    std::vector<uint32_t> due_;        // extent → place of its next touch
};

}  // namespace

std::unique_ptr<Policy> make_reference_lru(const Workload& workload) {
    return std::make_unique<ReferenceLru>(workload);
}

std::unique_ptr<Policy> make_belady(const Workload& workload) {
    return std::make_unique<Belady>(workload);
}

}  // namespace tierd
