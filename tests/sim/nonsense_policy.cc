#include "tests/sim/nonsense_policy.h"

namespace tierd::sim {

namespace {

class NonsensePolicy final : public Policy {
  public:
    NonsensePolicy(World& world, const bool& quiet) : world_(world), quiet_(quiet) {}

    std::string_view name() const override { return "nonsense"; }
    void model_open(const PolicyView&, const PolicyModel&) override {}
    void model_close(const PolicyView&, uint32_t) override {}
    void first_session(const PolicyView& view, uint32_t, PolicyDecisions& out) override { babble(view, out); }
    void last_session(const PolicyView& view, uint32_t, PolicyDecisions& out) override { babble(view, out); }
    void fault(const PolicyView& view, ExtentId extent, Touch, PolicyDecisions& out) override {
        if (dice().chance(200)) out.evict.push_back(extent);
        babble(view, out);
    }
    void filled(const PolicyView&, ExtentId) override {}
    void evicted(const PolicyView&, ExtentId) override {}
    void reclaim(const PolicyView& view, uint64_t, bool, PolicyDecisions& out) override {
        if (dice().chance(300)) return;
        for (uint64_t i = dice().below(6); i > 0; i--) out.evict.push_back(row(view));
    }
    void tier_change(const PolicyView& view, uint8_t, PolicyDecisions& out) override { babble(view, out); }
    void epoch(const PolicyView& view, PolicyDecisions& out) override { babble(view, out); }

  private:
    Dice& dice() { return world_.dice; }
    ExtentId row(const PolicyView& view) {
        if (dice().chance(30)) return static_cast<ExtentId>(dice().next());
        return static_cast<ExtentId>(dice().below(view.extents.size() + 2));
    }
    void babble(const PolicyView& view, PolicyDecisions& out) {
        if (quiet_ || dice().chance(400)) return;
        auto some = [&](std::vector<ExtentId>& into) {
            if (dice().chance(600)) return;
            for (uint64_t i = dice().below(8); i > 0; i--) into.push_back(row(view));
            if (!into.empty() && dice().chance(300)) into.push_back(into.front());
        };
        some(out.read_ahead);
        some(out.speculative);
        some(out.evict);
        some(out.watch);
        for (uint64_t i = dice().below(4); i > 0; i--) {
            ExtentId one = row(view), other = row(view);
            auto here = static_cast<uint8_t>(dice().below(5)), there = static_cast<uint8_t>(dice().below(18));
            out.moves.push_back({one, here, static_cast<uint32_t>(dice().next())});
            if (dice().chance(300) && one < view.extents.size() && other < view.extents.size()) {
                // An exchange, as far as its two halves know.
                out.moves.back().tier = view.extents[other].tier;
                out.moves.push_back({other, view.extents[one].tier, 0});
            } else if (dice().chance(100)) {
                out.moves.push_back({one, there, 0});
            }
        }
    }

    World& world_;
    const bool& quiet_;
};

}  // namespace

std::unique_ptr<Policy> make_nonsense_policy(World& world, const bool& quiet) {
    return std::make_unique<NonsensePolicy>(world, quiet);
}

}  // namespace tierd::sim
