#include "lib/replay/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <unordered_map>

#include "lib/replay/blind_spots.h"

namespace tierd {
namespace {

// What is known of an open slot while the trace is read.
struct Slot {
    uint32_t reader = 0;
    uint32_t model = 0;
    uint64_t since_ns = 0;            // when the last touch was served, as far as is known
    uint32_t awaited = UINT32_MAX;    // the index of the last miss, until its fill is seen
    std::optional<BlindSpots> blind;  // of a recording
};

using Key = std::pair<std::string, uint32_t>;  // a model's name and how many extents it has

class WorkloadBuilder {
  public:
    explicit WorkloadBuilder(const Trace& trace) : trace_(trace) { script_.complete = trace.complete; }

    Result<Workload> run() {
        if (!trace_.complete) rank_first_touches();
        for (const TraceEvent& event : trace_.events)
            if (!take(event))
                return fail(Code::no_space, "replay the trace: its models have too many extents");
        const uint64_t end_ns = trace_.events.empty() ? 0 : trace_.events.back().time_ns;
        for (auto& [number, slot] : slots_) finish(slot, end_ns);
        return std::move(script_);
    }

  private:
    bool take(const TraceEvent& event) {
        using enum TraceEventKind;
        if (event.kind == open) return take_open(event);
        if (event.kind == close) {
            finish(slots_.at(event.slot), event.time_ns);
            slots_.erase(event.slot);
        }
        if (event.kind == missing || event.kind == minor) take_touch(event);
        if (event.kind == filled) take_fill(event);
        if (event.kind == mapped || event.kind == armed || event.kind == evicted) take_sight(event);
        return true;
    }

    bool take_open(const TraceEvent& event) {
        const TraceModel& facts = trace_.models[event.index];
        auto [known, is_new] = models_.try_emplace({facts.name, facts.extent_count()},
                                                   static_cast<uint32_t>(script_.models.size()));
        if (is_new) {
            WorkloadModel model{&facts, script_.extents, facts.extent_count(), 0, facts.order};
            for (const TraceRun& run : facts.runs) model.bytes += uint64_t{run.count} * run.bytes;
            if (model.extent_count > kMaxTraceExtents - script_.extents) return false;
            if (script_.models.size() >= TIERD_MAX_MODELS) return false;
            if (model.order.empty()) {
                model.order.resize(model.extent_count);
                std::iota(model.order.begin(), model.order.end(), 0u);
            }
            script_.extents += model.extent_count;
            script_.bytes += model.bytes;
            script_.models.push_back(std::move(model));
        }
        auto reader = static_cast<uint32_t>(script_.readers.size());
        script_.readers.push_back({known->second, event.time_ns, {}});
        Slot& slot = slots_[event.slot] = {reader, known->second, event.time_ns, UINT32_MAX, {}};
        if (!trace_.complete)
            slot.blind.emplace(facts, pass_order(known->first, script_.models[known->second]));
        return true;
    }

    // The unseen touches since the last one seen share the computing between the two.
    void take_touch(const TraceEvent& event) {
        Slot& slot = slots_.at(event.slot);
        std::vector<uint32_t> touched;
        if (slot.blind) slot.blind->on_touch(event.index, event.time_ns, touched);
        script_.unseen += touched.size();
        touched.push_back(event.index);
        uint64_t think_ns = event.time_ns - std::min(event.time_ns, slot.since_ns);
        for (uint32_t index : touched) {
            script_.readers[slot.reader].touches.push_back({think_ns / touched.size(), index});
            script_.order.push_back(script_.models[slot.model].first_extent + index);
        }
        slot.since_ns = event.time_ns;
        slot.awaited = event.kind == TraceEventKind::missing ? event.index : UINT32_MAX;
    }

    void take_sight(const TraceEvent& event) {
        Slot& slot = slots_.at(event.slot);
        if (!slot.blind) return;
        event.kind == TraceEventKind::mapped ? slot.blind->on_mapped(event.index)
                                             : slot.blind->on_visible(event.index);
    }

    void finish(Slot& slot, uint64_t time_ns) {
        if (!slot.blind) return;
        slot.blind->on_end(time_ns);
        std::string why = slot.blind->why_blind();
        if (!why.empty() && script_.cant_tell.empty())
            script_.cant_tell = fmt::format("{}: {}", script_.models[slot.model].facts->name, why);
    }

    // In which order the trace shows each model's extents touched for the first time.
    void rank_first_touches() {
        std::unordered_map<uint32_t, Key> open;
        for (const TraceEvent& event : trace_.events) {
            if (event.kind == TraceEventKind::open) {
                const TraceModel& facts = trace_.models[event.index];
                open[event.slot] = {facts.name, facts.extent_count()};
            } else if (event.kind == TraceEventKind::missing || event.kind == TraceEventKind::minor) {
                auto& ranks = first_touches_[open.at(event.slot)];
                ranks.try_emplace(event.index, ranks.size());
            }
        }
    }

    // As extents were touched first; one that was never seen follows the extent before it in the file's own order.
    std::vector<uint32_t> pass_order(const Key& key, const WorkloadModel& model) const {
        auto found = first_touches_.find(key);
        if (found == first_touches_.end()) return model.order;
        std::vector<double> rank(model.extent_count);
        double last = -1;
        for (uint32_t index : model.order) {
            auto seen = found->second.find(index);
            rank[index] = seen == found->second.end() ? last + 0.5 : static_cast<double>(seen->second);
            if (seen != found->second.end()) last = rank[index];
        }
        std::vector<uint32_t> order = model.order;
        std::ranges::stable_sort(order, {}, [&](uint32_t index) { return rank[index]; });
        return order;
    }

    void take_fill(const TraceEvent& event) {
        Slot& slot = slots_.at(event.slot);
        if (slot.awaited != event.index) return;
        slot.awaited = UINT32_MAX;
        slot.since_ns = event.time_ns;
    }

    const Trace& trace_;
    Workload script_;
    std::map<Key, uint32_t> models_;
    std::map<Key, std::unordered_map<uint32_t, size_t>> first_touches_;  // index → rank
    std::unordered_map<uint32_t, Slot> slots_;
};

}  // namespace

Result<Workload> make_workload(const Trace& trace) {
    return WorkloadBuilder(trace).run();
}

}  // namespace tierd
