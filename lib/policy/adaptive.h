// adaptive.h - the policies `sweep` and `auto`: give each model its share of the budget and hold in it what
// pays.
//
// Owns:      for each open model its share, its mode and the lists of its resident extents.
// Invariant: every extent that was reported filled and not yet evicted is in exactly one list: one of its
//            model's, or the list of those whose model is closed. What a model holds is decided by its share,
//            not by who is loudest.
// Callers:   the engine's thread. An event costs O(1) and a bounded walk; reclaim() also looks at each open
//            model once; a changed share or mode walks that model's resident extents.
// Fails:     never; events about extents or models that are not known are ignored, or their extents go first.
//
// A model that is larger than its share is treated by what its touches look like:
//   sweep  dense models touch all their weights in the same order once a token. Then each extent's next touch
//          is one pass away, whatever was touched last; the optimum keeps a fixed set and reads the rest. The
//          held set is spread evenly over the file, so the disk has the same work to do between any two
//          streamed extents and never idles, and growing the share only adds to it. The rest goes through a
//          small window: the extents just touched, kept while threads read in them, and those read ahead.
//   heat   mixture-of-experts models touch a few experts a layer, hardly predictable. Everything that is no
//          expert is held; experts live in levels by how often they had to be read lately, and sink when they
//          were not missed for long. Touches of mapped extents are not seen; so those next to go are watched
//          for a while, and one that is touched in that time is saved. Where this layer's experts foretell the
//          next one's, these are read meanwhile.
//   lru    models that fit, and those not yet understood.
// `sweep` takes the first for every model; `auto` goes by the read-ahead's score.
//
// Models that were silent for kSilentNs are the first to give: a model that is read without a fault looks the
// same as one that nobody uses, so it loses a few extents, faults, and has its share back.
#pragma once

#include <span>

#include "lib/policy/extent_lists.h"
#include "lib/policy/readahead.h"
#include "lib/policy/expert_predictor.h"

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
