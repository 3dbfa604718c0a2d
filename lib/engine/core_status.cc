// core_status.cc - the engine's thread, as administrators see and steer it.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr uint64_t kLargestBudget = 1ull << 62;  // where the machine's memory is not known

}  // namespace

EngineStatus Core::status() const {
    EngineStatus status;
    status.version = TIERD_VERSION;
    status.uptime_ns = monotonic_ns() - started_ns_;
    status.policy = policy_->name();
    status.budget_bytes = tiers_.capacity_bytes();
    status.resident_bytes = tiers_.used_bytes();
    status.resident_peak_bytes = tiers_.peak_bytes();
    status.pinned_bytes = pinned_bytes_;
    status.models = files_.size();
    status.sessions = clients_.size();
    status.notes = notes_;
    status.counters = counters_;
    Pace pace = migrator_ ? migrator_->pace() : Pace(migrate_bytes_per_s_);
    status.moves = {migrate_bytes_per_s_, pace.bytes_per_s(), pace.slowdown()};
    for (size_t i = 0; i < kFallBackReasons; i++)
        status.fall_backs.push_back({kFallBackReasonNames[i], fall_backs_[i]});
    return status;
}

void Core::add_notes(std::vector<std::string> notes) {
    notes_.insert(notes_.end(), std::make_move_iterator(notes.begin()), std::make_move_iterator(notes.end()));
}

ModelStatus Core::describe(const WeightFile& file) const {
    ModelStatus model;
    model.file = file.number;
    model.name = file.name;
    model.path = file.path;
    model.format = format_name(file.map.format);
    model.architecture = file.map.architecture;
    model.backing = backing_name(file.arena.backing());
    model.arena = file.arena.name();
    model.header_error = file.header_error;
    model.file_bytes = file.size_bytes();
    model.extent_bytes = file.layout.extent_bytes();
    model.extents = file.extent_count;
    model.resident_extents = file.resident_extents;
    model.resident_bytes = std::min(file.resident_bytes, file.size_bytes());
    model.pinned_bytes = file.pinned ? file.memory_bytes() : 0;
    model.sessions = file.clients;
    model.tensors = file.map.tensors.size();
    model.order_learned = file.order_learned;
    model.changed = file.changed;
    return model;
}

std::vector<ModelStatus> Core::models() const {
    std::vector<ModelStatus> list;
    for (auto& [number, file] : files_) list.push_back(describe(*file));
    return list;
}

std::vector<SessionStatus> Core::sessions() const {
    std::vector<SessionStatus> list;
    for (auto& [number, client] : clients_) {
        SessionStatus session;
        session.session = number;
        session.pid = client->peer.pid;
        session.uid = client->peer.uid;
        session.command = client->command;
        session.regions = client->regions.size();
        for (const Region& region : client->regions) session.mapped_bytes += region.length_bytes;
        session.faults_missing = client->faults_missing;
        session.faults_minor = client->faults_minor;
        session.slowest_fault_ns = client->slowest_fault_ns;
        session.user_mode_faults = client->peer.user_mode_faults;
        list.push_back(std::move(session));
    }
    return list;
}

std::vector<TierStatus> Core::tiers() const {
    std::vector<TierStatus> list;
    for (const Tier* tier : tiers_.by_speed()) list.push_back(describe(*tier));
    return list;
}

std::map<dev_t, uint64_t> Core::bytes_on_devices() const {
    std::map<dev_t, uint64_t> bytes;
    for (auto& [number, file] : files_)
        if (!file->changed) bytes[static_cast<dev_t>(file->origin.identity.device)] += file->size_bytes();
    return bytes;
}

bool Core::disks_are_idle() const {
    bool waiting = reads_in_flight_ > 0 || !demand_.empty() || !ahead_.empty() || stopping_;
    return !waiting && monotonic_ns() - last_read_ns_ >= config_.disk_idle_ms * kNsPerMs;
}

// All parts of a model by its name, or one file by path or number. Many checkpoints call their file
// model.safetensors: a name that stands for several models is refused rather than acted on for all. A file that changed while
// it was served is known until its sessions have left it; names and paths mean the one that is served now.
Result<std::vector<std::shared_ptr<WeightFile>>> Core::files_named(const std::string& model) const {
    uint64_t number = 0;
    auto [end, error] = std::from_chars(model.data(), model.data() + model.size(), number);
    bool is_number = error == std::errc() && end == model.data() + model.size();
    std::map<std::string, std::shared_ptr<WeightFile>> found;  // by path; of one path the latest
    std::set<std::string> directories;
    for (auto& [key, file] : files_) {
        if (is_number && key == number) return std::vector{file};
        if (file->changed || (file->path != model && file->name != model)) continue;
        found[file->path] = file;
        directories.insert(file->path.substr(0, file->path.rfind('/') + 1));
    }
    if (auto exact = found.find(model); exact != found.end()) return std::vector{exact->second};
    if (found.empty())
        return fail(Code::not_found, "find model", model,
                    "see the names that `tierctl models` lists, or give a path");
    if (directories.size() > 1)
        return fail(Code::bad_input, "find model", model,
                    "several models have that name: give the path or the number of one");
    std::vector<std::shared_ptr<WeightFile>> files;
    for (auto& [path, file] : found) files.push_back(file);
    return files;
}

std::vector<FaultStageStatus> Core::faults() const {
    std::vector<FaultStageStatus> rows;
    for (size_t i = 0; i < kFaultStages; i++) {
        const StageHistogram& stage = profile_.stages()[i];
        rows.push_back({.stage = kFaultStageNames[i],
                        .count = stage.count,
                        .sum_ns = stage.sum_ns,
                        .max_ns = stage.max_ns,
                        .buckets = {stage.buckets.begin(), stage.buckets.end()}});
    }
    return rows;
}

Result<ModelDetail> Core::tensors(const std::string& model) {
    auto named = files_named(model);
    if (!named) return std::unexpected(named.error());
    auto& files = *named;
    const WeightFile& file = *files.front();
    ModelDetail detail;
    detail.model = describe(file);
    std::map<int, LayerStatus> layers;
    auto resident_in = [&](uint64_t begin, uint64_t end) {
        uint64_t bytes = 0;
        while (begin < end) {
            ExtentId id = file.extent_at(begin);
            uint64_t stop = std::min(end, file.offset_of(id) + file.memory_of(id));
            if (table_[id].state == TIERD_EXTENT_RESIDENT) bytes += stop - begin;
            begin = stop;
        }
        return bytes;
    };
    for (const Tensor& tensor : file.map.tensors) {
        TensorStatus row;
        row.name = tensor.name;
        row.dtype = tensor.dtype;
        row.role = role_name(tensor.role);
        row.layer = tensor.layer == TIERD_NO_LAYER ? -1 : tensor.layer;
        row.expert = tensor.expert == TIERD_NO_EXPERT ? -1 : tensor.expert;
        row.bytes = tensor.end_bytes - tensor.begin_bytes;
        row.resident_bytes = resident_in(tensor.begin_bytes, tensor.end_bytes);
        LayerStatus& layer = layers[row.layer];
        layer.layer = row.layer;
        layer.bytes += row.bytes;
        layer.resident_bytes += row.resident_bytes;
        detail.tensors.push_back(std::move(row));
    }
    for (uint32_t index = 0; index < file.extent_count; index++) {
        const tierd_extent& row = table_[file.first_extent + index];
        auto layer = layers.find(row.layer == TIERD_NO_LAYER ? -1 : row.layer);
        if (layer != layers.end()) layer->second.touches += row.touches;
    }
    for (auto& [number, layer] : layers) detail.layers.push_back(layer);
    return detail;
}

Result<JobStatus> Core::start_preload(const std::string& model) {
    auto named = files_named(model);
    if (!named) return std::unexpected(named.error());
    auto& files = *named;
    Job job;
    job.status.job = next_job_++;
    job.status.what = "preload " + files.front()->name;
    for (auto& file : files) {
        job.status.total_bytes += file->size_bytes();
        for (uint32_t index : file->order) job.queue.push_back(file->first_extent + index);
    }
    JobStatus status = job.status;
    jobs_[status.job] = std::move(job);
    constexpr size_t kJobsKept = 64;
    if (jobs_.size() > kJobsKept) jobs_.erase(jobs_.begin());
    return status;
}

Result<JobStatus> Core::job(uint64_t number) {
    advance_jobs();
    auto found = jobs_.find(number);
    if (found == jobs_.end())
        return fail(Code::not_found, "find job", std::to_string(number),
                    "finished jobs are forgotten after a while");
    return found->second.status;
}

void Core::advance_jobs() {
    for (auto& [number, job] : jobs_) {
        if (job.status.finished || job.drains != kNoTier) continue;
        uint64_t queued_bytes = 0;
        for (ExtentId id : job.queue)
            if (owner_of(id) != nullptr && table_[id].state != TIERD_EXTENT_RESIDENT)
                queued_bytes += table_[id].bytes;
        job.status.done_bytes = job.status.total_bytes - std::min(job.status.total_bytes, queued_bytes);
        bool filling = std::any_of(fills_.begin(), fills_.end(),
                                   [](auto& fill) { return fill.second.reason == FillReason::preload; });
        job.status.finished = job.queue.empty() && !filling;
    }
}

Result<ModelStatus> Core::set_pinned(const std::string& model, bool pinned) {
    auto named = files_named(model);
    if (!named) return std::unexpected(named.error());
    auto& files = *named;
    uint64_t more = 0;
    for (auto& file : files) more += file->pinned ? 0 : file->memory_bytes();
    uint64_t keep_free = kMinBudgetExtents * config_.extent_bytes;
    if (pinned && pinned_bytes_ + more + keep_free > tiers_.usable_bytes())
        return fail(
            Code::no_space, "pin", model,
            fmt::format(
                "it needs {} of the budget beside {} pinned already and {} kept free; raise the budget",
                format_bytes(more), format_bytes(pinned_bytes_), format_bytes(keep_free)));
    for (auto& file : files) {
        for (uint32_t index = 0; index < file->extent_count; index++) {
            uint8_t& flags = table_[file->first_extent + index].flags;
            flags = static_cast<uint8_t>(pinned ? flags | TIERD_EXTENT_PINNED : flags & ~TIERD_EXTENT_PINNED);
        }
        if (pinned && !file->pinned) pinned_bytes_ += file->memory_bytes();
        if (!pinned && file->pinned) pinned_bytes_ -= file->memory_bytes();
        file->pinned = pinned;
    }
    return describe(*files.front());
}

Result<uint64_t> Core::evict_model(const std::string& model) {
    auto named = files_named(model);
    if (!named) return std::unexpected(named.error());
    auto& files = *named;
    uint64_t bytes = 0;
    for (auto& file : files)
        for (uint32_t index = 0; index < file->extent_count; index++)
            if (start_eviction(file->first_extent + index))
                bytes += file->bytes_in(file->first_extent + index);
    return bytes;
}

Result<void> Core::set_budget(uint64_t budget_bytes) {
    uint64_t least = std::max(kMinBudgetExtents * config_.extent_bytes,
                              pinned_bytes_ + kMinBudgetExtents * config_.extent_bytes);
    if (budget_bytes < least)
        return fail(Code::bad_input, "set the budget to", format_bytes(budget_bytes),
                    fmt::format("give at least {}", format_bytes(least)));
    uint64_t memory_bytes = tiers_.find(system_tier_)->spec.memory_bytes;
    if (budget_bytes > (memory_bytes != 0 ? memory_bytes : kLargestBudget))
        return fail(Code::bad_input, "set the budget to", format_bytes(budget_bytes),
                    memory_bytes == 0 ? "it is larger than any machine"
                                      : fmt::format("give at most the {} that the machine has",
                                                    format_bytes(memory_bytes)));
    tiers_.resize(system_tier_, budget_bytes);
    if (tiers_.count() > 1) return {};  // tend_tiers() brings it within its capacity
    uint64_t used = tiers_.used_bytes();
    if (used > budget_bytes + evicting_bytes_) {
        // make_room() counts what is free; being over the budget is being short by as much.
        uint64_t over = used - budget_bytes - evicting_bytes_;
        decisions_.clear();
        policy_->reclaim(view(), over, true, decisions_);
        uint64_t freed = 0;
        for (ExtentId id : decisions_.evict)
            if (freed < over && start_eviction(id)) freed += file_of(id).memory_of(id);
        if (freed < over) evict_by_age(over - freed);
    }
    return {};
}

}  // namespace tierd
