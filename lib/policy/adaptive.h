// adaptive.h - the policies `sweep` and `auto`: give each model a share of the budget, and keep in it what saves most
// reads.
//
// Owns:      for each open model its share, its mode and the lists of its resident extents.
// Invariant: every extent that was reported filled and not yet evicted is in exactly one list: one of its model's, or
//            the list of those whose model is closed. A model's share limits its memory, however many touches it has.
// Callers:   the engine's thread. An event costs O(1) and a bounded walk; reclaim() also visits each open model once;
//            a changed share or mode walks that model's resident extents.
// Fails:     never; events about unknown extents or models are ignored, or their extents are evicted first.
//
// A model that is larger than its share is treated according to its touches:
//   sweep  dense models touch all their weights in the same order once per token. So each extent's next touch is one
//          pass away, whatever was touched last. The optimum keeps a fixed set and reads the rest. The kept set is
//          spread evenly over the file, so the disk always has the same work between two streamed extents and never
//          idles, and a larger share only adds to the set. The rest passes through a small window: the extents just
//          touched, kept while threads read them, and those read ahead.
//   heat   mixture-of-experts models touch a few experts per layer, and which ones is hard to predict. Everything
//          except experts is kept. Experts have levels by how often they had to be read lately, and sink while they
//          are not missed. Touches of mapped extents are not seen; so the next victims are watched for a while, and
//          one that is touched in that time is kept. Where this layer's experts predict the next layer's, those are
//          prefetched.
//   lru    models that fit, and models whose pattern is not known yet.
// `sweep` uses the first mode for every model; `auto` chooses by the read-ahead's score.
//
// Models without a touch for kSilentNs lose memory first. A model that is read without a fault looks like an unused
// one: it loses a few extents, faults, and gets its share back.
#pragma once

#include <span>

#include "lib/policy/expert_predictor.h"
#include "lib/policy/extent_lists.h"
#include "lib/policy/readahead.h"

namespace tierd {

enum class Mode : uint8_t { lru, sweep, heat };

class AdaptivePolicy final : public Policy {
  public:
    enum class Choice : uint8_t { always_sweep, by_score };
    explicit AdaptivePolicy(Choice choice) : choice_(choice) {}

    std::string_view name() const override { return choice_ == Choice::always_sweep ? "sweep" : "auto"; }
    void model_open(const PolicyView& view, const PolicyModel& model) override;
    void model_close(const PolicyView& view, uint32_t model) override;
    void last_session(const PolicyView&, uint32_t model, PolicyDecisions&) override {
        read_ahead_.last_session(model);
    }
    void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) override;
    void filled(const PolicyView& view, ExtentId extent) override;
    void evicted(const PolicyView& view, ExtentId extent) override;
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override;
    void epoch(const PolicyView& view, PolicyDecisions& out) override;

    // How the model is treated now; lru for one that is not open.
    Mode mode(uint32_t model) const;

  private:
    static constexpr uint32_t kLevels = 7;
    // The lists of one model. Victims come from the first on; held and pinned are the last resort.
    enum Kind : uint32_t { kAhead, kLevel0, kHeld = kLevel0 + kLevels, kPinned, kKinds };

    struct Note {
        uint32_t touch_clock =
            0;  // the model's clock at its last touch, or when it was filled or sank a level
        uint32_t miss_clock = 0;  // the model's clock at its last miss
        uint32_t named_in = 0;    // the reclaim() that named it last
        uint8_t misses = 0;       // decayed; outlives eviction
        bool wanted = false;      // a demand miss waits for it
        bool watched = false;     // its next touch will be seen
        bool ahead = false;       // resident by read-ahead, not touched since
    };

    struct Model {
        uint32_t slot = 0;
        ExtentId first_extent = 0;
        uint32_t extent_count = 0;
        uint64_t bytes = 0;            // of memory, when all of it is resident
        uint64_t extent_bytes = 1;     // on average
        uint64_t held_kind_bytes = 0;  // in heat mode: all that is no expert; 0: the model has no experts
        ExtentLists::List lists = 0;
        Mode mode = Mode::lru;
        uint64_t share_bytes = 0;
        uint64_t last_touch_ns = 0;
        uint32_t clock = 0;         // touches seen
        uint32_t mode_clock = 0;    // when the mode was chosen
        uint32_t hold_below = 0;    // an extent is held when its key is less
        uint32_t filed_below = 0;   // hold_below when the lists were last sorted out
        uint32_t window = 0;        // extents of the share that are not for holding
        uint32_t keep = 0;          // of these, the last touched that are not evicted
        uint32_t cut = 0;           // held extents that demand took: the share holds less than it seems
        uint32_t fills = 0;         // in this epoch
        double fills_an_epoch = 0;  // decayed
        bool silent = false;
    };

    // One reclaim() on its way.
    struct Search {
        const PolicyView& view;
        uint64_t needed_bytes;
        std::vector<ExtentId>& victims;
        uint64_t named_bytes = 0;
        bool done() const { return named_bytes >= needed_bytes; }
    };

    bool reserve(const PolicyView& view, ExtentId extent);
    Model* model_of(const PolicyView& view, ExtentId extent);
    uint64_t resident_bytes(const Model& model) const;
    uint32_t resident_extents(const Model& model) const;
    uint64_t pinned_bytes(const Model& model) const;
    static bool fits(const Model& model);

    void adopt_resident(const PolicyView& view, const Model& model);
    void refresh_shares(const PolicyView& view);
    void resize_hold(Model& model) const;
    void choose_mode(const PolicyView& view, Model& model);
    void refile(const PolicyView& view, Model& model);
    static uint32_t hold_key(const Model& model, ExtentId extent);
    static bool is_held(const PolicyView& view, const Model& model, ExtentId extent);
    void file(const PolicyView& view, const Model& model, ExtentId extent);
    static uint32_t level(const Note& note);
    void count_miss(const Model& model, Note& note) const;
    void sink_levels(const Model& model);
    uint64_t free_extents(const Model& model) const;
    uint32_t soon_to_go(const Model& model) const;
    void watch_coldest(const PolicyView& view, const Model& model, std::vector<ExtentId>& watch);
    ReadAheadLimits limits(const PolicyView& view, const Model& model) const;

    std::vector<Model*> by_claim();
    bool owes(const Model& model) const;
    bool usable(const Search& search, ExtentLists::List pinned, ExtentId extent);
    void take(Search& search, ExtentId extent);
    void take_list(Search& search, ExtentLists::List list, ExtentLists::List pinned);
    void take_unpinned(Search& search, ExtentLists::List pinned);
    void take_cheap(Search& search, const Model& model);
    void take_untouched(Search& search, const Model& model);
    void take_held(Search& search, Model& model);
    void take_anything(Search& search, Model& model);
    bool recent(const Model& model, const Note& note) const;

    Choice choice_;
    ExtentLists lists_{kKinds};
    ExtentLists::List orphans_ =
        lists_.take_block();  // resident, but their model is closed; and the pinned of them
    std::vector<Note> notes_;
    std::unordered_map<uint32_t, Model> models_;
    uint32_t asking_ = UINT32_MAX;  // slot of the model that was touched last: memory is most likely for it
    uint32_t searches_ = 0;
    uint32_t epochs_ = 0;
    uint64_t capacity_bytes_ = 0;
    ReadAhead read_ahead_;
    ExpertPredictor predictor_;
};

}  // namespace tierd
