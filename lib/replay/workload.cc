#include "lib/replay/workload.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>

namespace tierd {
namespace {

// What is known of an open slot while the trace is read.
struct Slot {
    uint32_t reader = 0;
    uint32_t model = 0;
    uint64_t since_ns = 0;          // when the last touch was served, as far as is known
    uint32_t awaited = UINT32_MAX;  // the index of the last miss, until its fill is seen
};

class WorkloadBuilder {
  public:
    explicit WorkloadBuilder(const Trace& trace) : trace_(trace) { script_.complete = trace.complete; }

    Result<Workload> run() {
        for (const TraceEvent& event : trace_.events)
            if (!take(event))
                return fail(Code::no_space, "replay the trace: its models have too many extents");
        return std::move(script_);
    }

  private:
    bool take(const TraceEvent& event) {
        using enum TraceEventKind;
        if (event.kind == open) return take_open(event);
        if (event.kind == close) slots_.erase(event.slot);
        if (event.kind == missing || event.kind == minor) take_touch(event);
        if (event.kind == filled) take_fill(event);
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
        slots_[event.slot] = {reader, known->second, event.time_ns};
        return true;
    }

    void take_touch(const TraceEvent& event) {
        Slot& slot = slots_.at(event.slot);
        uint64_t think_ns = event.time_ns - std::min(event.time_ns, slot.since_ns);
        script_.readers[slot.reader].touches.push_back({think_ns, event.index});
        script_.order.push_back(script_.models[slot.model].first_extent + event.index);
        slot.since_ns = event.time_ns;
        slot.awaited = event.kind == TraceEventKind::missing ? event.index : UINT32_MAX;
    }

    void take_fill(const TraceEvent& event) {
        Slot& slot = slots_.at(event.slot);
        if (slot.awaited != event.index) return;
        slot.awaited = UINT32_MAX;
        slot.since_ns = event.time_ns;
    }

    const Trace& trace_;
    Workload script_;
    std::map<std::pair<std::string, uint32_t>, uint32_t> models_;
    std::unordered_map<uint32_t, Slot> slots_;
};

}  // namespace

Result<Workload> make_workload(const Trace& trace) {
    return WorkloadBuilder(trace).run();
}

}  // namespace tierd
