// fake_control.h - an engine for tests of the control API: answers from plain fields, remembers the
// questions.
//
// Owns:      the values that a test sets while no server runs (one that runs is stopped first).
// Callers:   the server's threads; a test reads what was asked through calls().
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/engine/control.h"

namespace tierd {

// A folder that goes with its content.
class TempFolder {
  public:
    TempFolder() {
        char form[] = "/tmp/tierd_test_XXXXXX";
        if (::mkdtemp(form) == nullptr) throw std::runtime_error("mkdtemp failed");
        path_ = form;
    }
    ~TempFolder() { std::filesystem::remove_all(path_); }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    std::string file(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

class FakeControl : public Control {
  public:
    FakeControl() {
        engine.version = "0.1";
        engine.uptime_ns = 3'661'000'000'000;
        engine.policy = "sweep";
        engine.budget_bytes = 8 * kGiB;
        engine.resident_bytes = 3 * kGiB;
        engine.resident_peak_bytes = 4 * kGiB;
        engine.models = 1;
        engine.sessions = 1;
        engine.notes = {"no hugetlb pages are reserved"};
        engine.counters.faults_missing = 17;
        engine.counters.bytes_read = 5 * kGiB;
        engine.counters.slowest_fault_ns = 12'500'000;
        engine.fall_backs = {{"changed", 2}, {"deadline", 0}};
        engine.refusals = {{"not_in_group", 3}};
        slowest = {4242,      "/models/gemma.gguf", 17, 60'000'000'000, 500'000, 11'000'000, 400'000, 600'000,
                   12'500'000};

        ModelStatus model;
        model.file = 1;
        model.name = "gemma.gguf";
        model.path = "/models/gemma.gguf";
        model.format = "gguf";
        model.architecture = "gemma";
        model.backing = "shmem thp";
        model.file_bytes = 4 * kGiB;
        model.extent_bytes = 2 * kMiB;
        model.extents = 2048;
        model.resident_extents = 1536;
        model.resident_bytes = 3 * kGiB;
        model.sessions = 1;
        model.tensors = 3;
        model.order_learned = true;
        known = {model};

        attached = {{7, 4242, 1000, "llama-server", 1, 4 * kGiB, 17, 30, 12'500'000, false}};
        TierStatus dram;
        dram.name = "dram0";
        dram.kind = "dram";
        dram.capacity_bytes = 8 * kGiB;
        dram.used_bytes = 3 * kGiB;
        dram.nodes = {0};
        memory = {dram};
        layers = {{-1, kGiB, kGiB, 9}, {0, kGiB, kGiB, 8}, {1, 2 * kGiB, kGiB, 4}};
        inside = {{"token_embd.weight", "F16", "embedding", -1, -1, kGiB, kGiB},
                  {"blk.0.attn_q.weight", "Q8_0", "attention", 0, -1, kGiB, kGiB},
                  {"blk.1.ffn_up_exps.weight[3]", "Q4_K", "expert", 1, 3, 2 * kGiB, kGiB}};
        SourceStatus pebs, hint;
        pebs.name = "pebs";
        pebs.record_fields = "instruction, thread, address";
        pebs.unavailable_reason = "this processor has no such precise event";
        hint.name = "hint";
        hint.record_fields = "extent and thread of a touch";
        hint.event = "minor faults";
        hint.available = hint.used = true;
        hint.records = 1200;
        hint.rate = 320;
        hint.cost_share = 0.0075;
        offered = {pebs, hint};
        HotRow expert;
        expert.model = "gemma.gguf";
        expert.name = "blk.1.ffn_up_exps.weight[3]";
        expert.layer = 1;
        expert.expert = 3;
        expert.bytes = 2 * kGiB;
        expert.heat = 12.5;
        expert.samples = 40;
        hottest = {expert};
        extents = {{0, 2 * kMiB, -1, -1, "embedding", 1, true, 3.5, 9, kNoNode, {"hbm0"}},
                   {2 * kMiB, 2 * kMiB, 0, -1, "attention", 1, true, 80.0, 30, kNoNode, {"hbm0"}},
                   {4 * kMiB, 2 * kMiB, 1, 3, "expert", 0, false, 0.0, 0, kNoNode, {"hbm0"}}};
        work = {5, "preload gemma.gguf", 0, 4 * kGiB, false, ""};
    }

    Result<EngineStatus> status() override {
        note("status");
        if (broken) throw std::runtime_error("the engine broke");
        return engine;
    }
    Result<std::vector<ModelStatus>> models() override {
        note("models");
        return known;
    }
    Result<std::vector<SessionStatus>> sessions() override {
        note("sessions");
        return attached;
    }
    Result<std::vector<DiskStatus>> disks() override {
        note("disks");
        return std::vector<DiskStatus>{{.name = "nvme0n1",
                                        .kind = "nvme",
                                        .size_bytes = 1024 * kGiB,
                                        .file_bytes = 64 * kGiB,
                                        .latency_ns = 80'000,
                                        .reads = {{1, kGiB}, {16, 6 * kGiB}},
                                        .measured_ns = 1'700'000'000'000'000'000},
                                       {.name = "sda", .kind = "rotational", .size_bytes = kGiB}};
    }
    Result<std::vector<TierStatus>> tiers() override {
        note("tiers");
        return memory;
    }
    Result<std::vector<FaultStageStatus>> faults() override {
        note("faults");
        return stages;
    }
    Result<SlowFault> slowest_fault() override {
        note("slowest_fault");
        return slowest;
    }
    Result<std::vector<SourceStatus>> sources() override {
        note("sources");
        return offered;
    }
    Result<std::vector<SourceStatus>> pause_sources(bool paused) override {
        note(paused ? "pause sources" : "resume sources");
        return offered;
    }
    Result<std::vector<HotRow>> hot(const std::string& by) override {
        note("hot " + by);
        if (!hot_by(by)) return fail(Code::bad_input, "show what is hot by", by, "by tensor, layer, ...");
        return hottest;
    }
    Result<HeatmapStatus> heatmap(const std::string& model) override {
        auto found = find("heatmap", model);
        if (!found) return std::unexpected(found.error());
        return HeatmapStatus{*found, extents};
    }
    Result<ModelDetail> tensors(const std::string& model) override {
        auto found = find("tensors", model);
        if (!found) return std::unexpected(found.error());
        return ModelDetail{*found, layers, inside};
    }
    Result<JobStatus> preload(const std::string& model) override {
        auto found = find("preload", model);
        if (!found) return std::unexpected(found.error());
        return work;
    }
    // Each look finds the job a quarter further.
    Result<JobStatus> job(uint64_t number) override {
        note("job " + std::to_string(number));
        if (number != work.job)
            return fail(Code::not_found, "find job", std::to_string(number), "preload gives the number");
        std::lock_guard lock(mutex_);
        if (!job_error.empty()) work.error = job_error;
        work.done_bytes = std::min(work.total_bytes, work.done_bytes + work.total_bytes / 4);
        work.finished = work.done_bytes == work.total_bytes || !job_error.empty();
        return work;
    }
    Result<ModelStatus> pin(const std::string& model) override {
        if (pins_too_large) return fail(Code::no_space, "pin", model, "raise the budget first");
        return find("pin", model);
    }
    Result<ModelStatus> unpin(const std::string& model) override { return find("unpin", model); }
    Result<uint64_t> evict(const std::string& model) override {
        auto found = find("evict", model);
        if (!found) return std::unexpected(found.error());
        return found->resident_bytes;
    }
    Result<EngineStatus> set_budget(uint64_t budget_bytes) override {
        note("budget " + std::to_string(budget_bytes));
        if (budget_bytes < 8 * kMiB) return fail(Code::bad_input, "set budget", {}, "at least 8 MiB");
        EngineStatus changed = engine;
        changed.budget_bytes = budget_bytes;
        return changed;
    }

    Result<PolicyStatus> policy() override {
        note("policy");
        return deciding;
    }
    Result<PolicyStatus> load_policy(const PolicyLoad& load) override {
        note("load " + load.name + " of " + std::to_string(load.object.size()) + " bytes");
        for (const NamedValue& knob : load.knobs) note("knob " + knob.name + "=" + knob.value);
        if (load.object == "bad")
            return fail(Code::bad_input, "fifo.bpf.c:17: the verifier refuses " + load.name, {}, "mend it");
        return deciding;
    }
    Result<PolicyStatus> unload_policy() override {
        note("unload");
        return deciding;
    }
    // A piece for each call, then a trace that ends.
    Result<TraceChunk> start_trace(bool) override {
        note("start trace");
        if (recorded_elsewhere) return fail(Code::busy, "record a trace", {}, "another recording is running");
        return TraceChunk{"first ", 0, 0};
    }
    Result<TraceChunk> fetch_trace() override {
        note("fetch trace");
        return TraceChunk{"middle ", 3, 1};
    }
    Result<TraceChunk> stop_trace() override {
        note("stop trace");
        return TraceChunk{"last", 4, 2};
    }
    Result<TierStatus> add_tier(const TierOverride& said) override {
        note("add tier " + said.name);
        if (said.name == "dram0")
            return fail(Code::bad_input, "add tier", said.name, "there is one of that name");
        TierStatus tier;
        tier.name = said.name;
        tier.kind = tier_kind_name(said.kind.value_or(TierKind::dram));
        tier.capacity_bytes = said.capacity_bytes.value_or(0);
        if (said.node) tier.nodes = {*said.node};
        tier.latency_ns = said.latency_ns.value_or(0);
        tier.bandwidth_bytes_per_s = said.bandwidth_bytes_per_s.value_or(0);
        return tier;
    }
    Result<TierStatus> resize_tier(const std::string& name, uint64_t capacity_bytes) override {
        note("resize tier " + name + " " + std::to_string(capacity_bytes));
        if (name == "nowhere") return fail(Code::not_found, "find tier", name, "the tiers are dram0");
        TierStatus tier = memory.front();
        tier.capacity_bytes = capacity_bytes;
        return tier;
    }
    Result<JobStatus> drain_tier(const std::string& name) override {
        note("drain tier " + name);
        if (name == "dram0")
            return fail(Code::no_space, "drain tier", name, "it is the only open memory tier");
        work.what = "drain " + name;
        return work;
    }
    Result<JobStatus> remove_tier(const std::string& name) override {
        note("remove tier " + name);
        work.what = "remove " + name;
        return work;
    }
    Result<JobStatus> cancel(uint64_t number) override {
        note("cancel " + std::to_string(number));
        if (number != work.job)
            return fail(Code::not_found, "cancel job", std::to_string(number), "no such job");
        work.finished = true;
        work.error = "cancelled";
        return work;
    }

    std::vector<std::string> calls() {
        std::lock_guard lock(mutex_);
        return asked_;
    }

    EngineStatus engine;
    std::vector<ModelStatus> known;
    std::vector<SessionStatus> attached;
    std::vector<TierStatus> memory;
    SlowFault slowest;
    std::vector<FaultStageStatus> stages = {
        {.stage = "read",
         .count = 3,
         .sum_ns = 6'000'000,
         .max_ns = 3'000'000,
         .buckets = std::vector<uint64_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}}};
    PolicyStatus deciding{.name = "fifo",
                          .loaded = true,
                          .built_in = "auto",
                          .unusable = "",
                          .licence = "GPL",
                          .loaded_for_ns = 61'000'000'000,
                          .rows = 2048,
                          .capacity = 65536,
                          .verified_instructions = 37,
                          .map_bytes = 64,
                          .knobs = {{"depth", "4"}},
                          .hooks = {{"fault", 17, 300, 900, 2100, 1'000'000, 0, 0}},
                          .accepted = {{"read ahead", 12}},
                          .refused = {{"not absent", 3}},
                          .calls_dropped = 0,
                          .log = {"depth is 4"},
                          .loads = 2,
                          .reloads = 0,
                          .ejections = 1,
                          .ejected = "loop",
                          .ejected_reason = "tierd/epoch took 120000 µs of processor time"};
    std::vector<SourceStatus> offered;
    std::vector<HotRow> hottest;
    std::vector<ExtentHeatStatus> extents;
    std::vector<LayerStatus> layers;
    std::vector<TensorStatus> inside;
    JobStatus work;
    std::string job_error;
    bool pins_too_large = false;
    bool recorded_elsewhere = false;
    bool broken = false;

  private:
    void note(const std::string& call) {
        std::lock_guard lock(mutex_);
        asked_.push_back(call);
    }
    Result<ModelStatus> find(const std::string& what, const std::string& name) {
        note(what + " " + name);
        for (const ModelStatus& model : known)
            if (name == model.name || name == model.path || name == std::to_string(model.file)) return model;
        return fail(Code::not_found, "find model", name, "GET /v1/models lists what is known");
    }

    std::mutex mutex_;  // guards asked_ and the job's progress
    std::vector<std::string> asked_;
};

}  // namespace tierd
