#include "lib/engine/engine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/engine/disk_book.h"
#include "lib/engine/user_shares.h"
#include "lib/sample/spe_source.h"

namespace tierd {

namespace {

constexpr uint32_t kRingEntries = 1024;
constexpr uint32_t kMaxFiles = 16384;

struct HeartbeatPage {
    Fd fd;
    Mapping mapping;
    wire::Heartbeat* page() const { return reinterpret_cast<wire::Heartbeat*>(mapping.data()); }
};

// One page that clients may read for ever and nobody but us may write.
Result<HeartbeatPage> make_heartbeat() {
    Fd fd(::memfd_create("tierd-heartbeat", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) return os_error("create heartbeat page");
    if (::ftruncate(fd.get(), 4096) != 0) return os_error("size heartbeat page");
    void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page == MAP_FAILED) return os_error("map heartbeat page");
    Mapping mapping(page, 4096);
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        return os_error("seal heartbeat page");
    auto* heartbeat = static_cast<wire::Heartbeat*>(page);
    heartbeat->beat_ns = monotonic_ns();
    heartbeat->pid = static_cast<uint64_t>(::getpid());
    return HeartbeatPage{std::move(fd), std::move(mapping)};
}

// The id of the process's cgroup (version 2): the inode number of its folder. 0 where there is none.
uint64_t cgroup_of(pid_t pid) {
    std::ifstream in(fmt::format("/proc/{}/cgroup", pid));
    for (std::string line; std::getline(in, line);) {
        struct stat info{};
        if (line.starts_with("0::/") && ::stat(("/sys/fs/cgroup" + line.substr(3)).c_str(), &info) == 0)
            return info.st_ino;
    }
    return 0;
}

// The name under which the kernel knows the open file. What the client says is its own affair: an administrator who names a
// path must not be led to another file.
std::string path_of(const Fd& fd, const std::string& said) {
    std::error_code error;
    auto path = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd.get()), error);
    return error ? said : path.string();
}

std::string command_of(pid_t pid) {
    std::ifstream in(fmt::format("/proc/{}/comm", pid));
    std::string name;
    std::getline(in, name);
    return name;
}

Result<void> check(const EngineConfig& config) {
    bool power_of_two = (config.extent_bytes & (config.extent_bytes - 1)) == 0;
    if (!power_of_two || config.extent_bytes < 64 * kKiB || config.extent_bytes > 2 * kMiB)
        return fail(Code::bad_config, "use an extent of", format_bytes(config.extent_bytes),
                    "choose a power of two from 64KiB to 2MiB");
    if (config.budget_bytes < kMinBudgetExtents * config.extent_bytes)
        return fail(Code::bad_config, "use a budget of", format_bytes(config.budget_bytes),
                    fmt::format("give at least {}", format_bytes(kMinBudgetExtents * config.extent_bytes)));
    auto names = builtin_policy_names();
    if (std::find(names.begin(), names.end(), config.policy) == names.end())
        return fail(Code::bad_config, "use policy", config.policy,
                    fmt::format("choose one of {}", fmt::join(names, ", ")));
    return {};
}

// Where changed settings of the system are remembered.
std::string settings_note(const EngineConfig& config) {
    if (config.state_directory.empty()) return {};
    std::error_code ignored;
    std::filesystem::create_directories(config.state_directory, ignored);
    return config.state_directory + "/changed_settings";
}

class ThreadedEngine final : public Engine {
  public:
    ThreadedEngine(const EngineConfig& config, ArenaStore arenas, HeartbeatPage heartbeat, Fd mailbox_event)
        : config_(config),
          shares_(config.user_metadata_bytes),
          arenas_(std::move(arenas)),
          heartbeat_(std::move(heartbeat)),
          mailbox_(std::move(mailbox_event)),
          evictor_("tierd-evict"),
          memory_("tierd-state") {}

    ~ThreadedEngine() override { stop(0); }

    Result<void> set_up() {
        auto reader = Reader::make(kRingEntries, kMaxFiles);
        if (!reader) return std::unexpected(reader.error());
        auto table = ExtentTable::make();
        if (!table) return std::unexpected(table.error());
        auto bounce = BounceBuffers::make(config_.extent_bytes);
        if (!bounce) return std::unexpected(bounce.error());
        auto watch = FileWatch::make();
        if (!watch) return std::unexpected(watch.error());
        auto memory_events = MemoryEvents::open();
        if (!memory_events && config_.tiers.size() > 1)
            notes_.push_back("memory that comes and goes is not noticed: " + memory_events.error().text());
        auto leases = GpuArbitrator::start(config_.gpu);
        if (!leases) return std::unexpected(leases.error());
        leases_ = std::move(*leases);
        auto readiness = Readiness::make();
        if (!readiness) return std::unexpected(readiness.error());
        open_state();
        core_ = std::make_unique<Core>(
            config_, Core::Parts{.reader = std::move(*reader),
                                 .bounce = std::move(*bounce),
                                 .policy = make_builtin_policy(config_.policy),
                                 .table = std::move(*table),
                                 .watch = std::move(*watch),
                                 .memory_events = memory_events ? std::move(*memory_events) : MemoryEvents(),
                                 .readiness = std::move(*readiness),
                                 .heartbeat = heartbeat_.page(),
                                 .mailbox = &mailbox_,
                                 .evictor = &evictor_,
                                 .memory = &memory_,
                                 .state = state_,
                                 .leases = leases_.get(),
                                 .grow_policy = [this] { grow_policy(); }});
        core_->add_notes(arenas_.notes());
        core_->add_notes(notes_);
        choose_source();
        open_disks();
        thread_ = std::thread([this] {
            name_this_thread("tierd-engine");
            core_->run();
        });
        load_configured_policy();
        return {};
    }

    void stop(uint32_t patience_ms) override {
        if (!thread_.joinable()) return;
        uint64_t deadline_ns = monotonic_ns() + patience_ms * kNsPerMs;
        mailbox_.post([deadline_ns](Core& core) { core.request_stop(deadline_ns); });
        thread_.join();
        arenas_.restore_settings();
    }

    void add_notes(std::vector<std::string> notes) override {
        mailbox_.post([notes = std::move(notes)](Core& core) { core.add_notes(notes); });
    }

    // --- SessionHandler
    void refused(Denial why) override { refusals_[static_cast<size_t>(why)]++; }
    Result<uint64_t> open_session(const Peer& peer, Fd notice) override {
        auto shared = std::make_shared<Fd>(std::move(notice));
        return ask<Result<uint64_t>>(
            [peer, shared, command = command_of(peer.pid), cgroup = cgroup_of(peer.pid)](Core& core) {
                return core.open_client(peer, std::move(*shared), command, cgroup);
            });
    }

    Result<AttachAnswer> attach(uint64_t session, Fd fd, const AttachRequest& request) override {
        auto file = know(fd, path_of(fd, request.path), !request.writable, request.uid);
        if (!file) return std::unexpected(file.error());
        if (request.writable && (*file)->arena.backing() == Backing::hugetlb)
            return fail(Code::unsupported, "map for writing", request.path,
                        "its arena has hugetlb pages, which would lose private writes");
        auto attached = ask<Result<void>>(
            [session, file = *file](Core& core) { return core.attach_client(session, file); });
        if (!attached) return std::unexpected(attached.error());
        Fd arena(::fcntl((*file)->arena.readonly_fd(), F_DUPFD_CLOEXEC, 0));
        if (!arena) return os_error("duplicate arena descriptor");
        return AttachAnswer{.file = (*file)->number,
                            .size_bytes = (*file)->size_bytes(),
                            .extent_bytes = (*file)->layout.extent_bytes(),
                            .page_bytes = (*file)->arena.page_bytes(),
                            .arena_bytes = (*file)->arena.length_bytes(),
                            .arena = std::move(arena)};
    }

    Result<void> map(uint64_t session, const RegionRequest& region, Fd userfaultfd) override {
        auto shared = std::make_shared<Fd>(std::move(userfaultfd));
        return ask<Result<void>>([session, region, shared](Core& core) {
            return core.map_region(session, region, std::move(*shared));
        });
    }
    Result<void> unmap(uint64_t session, uint64_t address, uint64_t length_bytes) override {
        return ask<Result<void>>(
            [=](Core& core) { return core.unmap_region(session, address, length_bytes); });
    }
    Result<void> will_need(uint64_t session, uint64_t address, uint64_t length_bytes) override {
        return ask<Result<void>>([=](Core& core) { return core.will_need(session, address, length_bytes); });
    }
    void fallen_back(uint64_t session, uint32_t sequence, int status) override {
        mailbox_.post([=](Core& core) { core.fallen_back(session, sequence, status); });
    }
    void close_session(uint64_t session) override {
        mailbox_.post([=](Core& core) { core.close_client(session); });
    }
    void lease(Fd channel, const Peer& peer, const LeaseRequest& request) override {
        leases_->adopt(std::move(channel), {peer.pid, peer.uid, command_of(peer.pid), cgroup_of(peer.pid)},
                       request);
    }
    int heartbeat_fd() const override { return heartbeat_.fd.get(); }

    // --- Control
    Result<EngineStatus> status() override {
        auto status = ask<Result<EngineStatus>>([](Core& core) { return core.status(); });
        if (!status) return status;
        for (size_t i = 0; i < kDenials; i++) status->refusals.push_back({kDenialNames[i], refusals_[i]});
        return status;
    }
    Result<std::vector<ModelStatus>> models() override {
        return ask<Result<std::vector<ModelStatus>>>([](Core& core) { return core.models(); });
    }
    Result<std::vector<SessionStatus>> sessions() override {
        auto list = ask<Result<std::vector<SessionStatus>>>([](Core& core) { return core.sessions(); });
        if (list)
            for (const GpuStatus& gpu : leases_->gpus()) add_leases(gpu, *list);
        return list;
    }
    Result<std::vector<TierStatus>> tiers() override {
        auto list = ask<Result<std::vector<TierStatus>>>([](Core& core) { return core.tiers(); });
        if (list)
            for (const GpuStatus& gpu : leases_->gpus())
                list->push_back({.name = gpu.name,
                                 .kind = "gpu",
                                 .capacity_bytes = gpu.capacity_bytes,
                                 .used_bytes = gpu.leased_bytes});
        return list;
    }
    Result<std::vector<DiskStatus>> disks() override {
        using Bytes = std::map<dev_t, uint64_t>;
        auto bytes = ask<Result<Bytes>>([](Core& core) -> Result<Bytes> { return core.bytes_on_devices(); });
        if (!bytes) return std::unexpected(bytes.error());
        return disks_->list(*bytes);
    }
    Result<std::vector<SourceStatus>> pause_sources(bool paused) override {
        return ask<Result<std::vector<SourceStatus>>>([paused](Core& core) {
            core.pause_sampling(paused);
            return core.sources();
        });
    }
    Result<std::vector<SourceStatus>> sources() override {
        return ask<Result<std::vector<SourceStatus>>>([](Core& core) { return core.sources(); });
    }
    // Rows are made here, on the caller's thread: a large model has a million tensors.
    Result<std::vector<HotRow>> hot(const std::string& by) override {
        auto snapshot = ask<Result<HeatSnapshot>>([](Core& core) { return core.heat_snapshot(); });
        if (!snapshot) return std::unexpected(snapshot.error());
        return hot_rows(*snapshot, by);
    }
    Result<HeatmapStatus> heatmap(const std::string& model) override {
        auto map = ask<Result<HeatmapStatus>>([model](Core& core) { return core.heatmap(model); });
        if (map) add_gpus(leases_->runs_of(map->model.file), map->extents);
        return map;
    }
    Result<std::vector<FaultStageStatus>> faults() override {
        return ask<Result<std::vector<FaultStageStatus>>>([](Core& core) { return core.faults(); });
    }
    Result<SlowFault> slowest_fault() override {
        return ask<Result<SlowFault>>([](Core& core) { return core.slowest_fault(); });
    }
    Result<ModelDetail> tensors(const std::string& model) override {
        return ask<Result<ModelDetail>>([model](Core& core) { return core.tensors(model); });
    }
    Result<JobStatus> preload(const std::string& model) override {
        auto known = ask<Result<JobStatus>>([model](Core& core) { return core.start_preload(model); });
        bool is_path = model.find('/') != std::string::npos;
        if (known || known.error().code != Code::not_found || !is_path) return known;
        auto fd = open_file(model, O_RDONLY | O_NONBLOCK);
        if (!fd) return std::unexpected(fd.error());
        auto file = know(*fd, model, false, 0);
        if (!file) return std::unexpected(file.error());
        return ask<Result<JobStatus>>([model](Core& core) { return core.start_preload(model); });
    }
    Result<JobStatus> job(uint64_t number) override {
        return ask<Result<JobStatus>>([number](Core& core) { return core.job(number); });
    }
    Result<ModelStatus> pin(const std::string& model) override { return set_pinned(model, true); }
    Result<ModelStatus> unpin(const std::string& model) override { return set_pinned(model, false); }
    Result<uint64_t> evict(const std::string& model) override {
        return ask<Result<uint64_t>>([model](Core& core) { return core.evict_model(model); });
    }
    Result<EngineStatus> set_budget(uint64_t budget_bytes) override {
        auto set = ask<Result<void>>([budget_bytes](Core& core) { return core.set_budget(budget_bytes); });
        if (!set) return std::unexpected(set.error());
        return status();
    }
    Result<PolicyStatus> policy() override {
        auto status = ask<Result<PolicyStatus>>([](Core& core) { return core.policy(); });
        if (!status || status->loaded) return status;
        if (auto usable = bpf_usable(); !usable) status->unusable = usable.error().text();
        return status;
    }
    Result<PolicyStatus> load_policy(const PolicyLoad& load) override {
        PolicySource source{.file = {load.name, load.object}, .knobs = {}};
        for (const NamedValue& knob : load.knobs) source.knobs.push_back({knob.name, knob.value});
        if (auto put = put_policy(source, false); !put) return std::unexpected(put.error());
        return policy();
    }
    Result<PolicyStatus> unload_policy() override {
        auto gone = ask<Result<void>>([](Core& core) { return core.unload_policy(); });
        if (!gone) return std::unexpected(gone.error());
        return policy();
    }
    Result<TraceChunk> start_trace() override {
        return ask<Result<TraceChunk>>([](Core& core) { return core.start_trace(); });
    }
    Result<TraceChunk> fetch_trace() override {
        return ask<Result<TraceChunk>>([](Core& core) { return core.fetch_trace(); });
    }
    Result<TraceChunk> stop_trace() override {
        return ask<Result<TraceChunk>>([](Core& core) { return core.stop_trace(); });
    }
    // The machine is looked at here, on the caller's thread.
    Result<TierStatus> add_tier(const TierOverride& said) override {
        return ask<Result<TierStatus>>(
            [said, topology = read_topology()](Core& core) { return core.add_tier(said, topology); });
    }
    Result<TierStatus> resize_tier(const std::string& name, uint64_t capacity_bytes) override {
        return ask<Result<TierStatus>>([=, topology = read_topology()](Core& core) {
            return core.resize_tier(name, capacity_bytes, topology);
        });
    }
    Result<JobStatus> drain_tier(const std::string& name) override {
        return ask<Result<JobStatus>>([name](Core& core) { return core.drain_tier(name, false); });
    }
    Result<JobStatus> remove_tier(const std::string& name) override {
        return ask<Result<JobStatus>>([name](Core& core) { return core.drain_tier(name, true); });
    }
    Result<JobStatus> cancel(uint64_t job) override {
        return ask<Result<JobStatus>>([job](Core& core) { return core.cancel_job(job); });
    }

  private:
    struct PolicySource {
        ObjectFile file;
        std::vector<Knob> knobs;
    };

    // Loads on the caller's thread, which the verifier may keep for some milliseconds, and swaps on the engine's.
    Result<void> put_policy(const PolicySource& source, bool is_reload) {
        std::lock_guard one_at_a_time(policy_mutex_);
        for (int attempt = 0;; attempt++) {
            auto object = load_object(source);
            if (!object) return std::unexpected(object.error());
            object->is_reload = is_reload;
            auto put =
                ask<Result<void>>([policy = *object](Core& core) { return core.install_policy(policy); });
            if (put) policy_source_ = source;
            bool grew = !put && put.error().code == Code::no_space;
            if (!grew || attempt == 3) return put;
        }
    }

    Result<Core::NewPolicy> load_object(const PolicySource& source) {
        using Room = Result<Core::PolicyRoom>;
        auto room = ask<Room>([](Core& core) -> Room { return core.policy_room(); });
        if (!room) return std::unexpected(room.error());
        if (room->tables == nullptr) {
            auto made = BpfTables::make(room->rows);
            if (!made) return std::unexpected(made.error());
            room->tables = std::move(*made);
        }
        auto object = BpfObject::load(source.file, source.knobs, room->tables);
        if (!object) return std::unexpected(object.error());
        auto begun = BpfPolicy::init(*object, room->view);
        if (!begun) return std::unexpected(begun.error());
        return Core::NewPolicy{.object = std::move(*object), .log = std::move(*begun)};
    }

    // Called on the engine's thread.
    void grow_policy() {
        loader_.post([this] {
            PolicySource source;
            {
                std::lock_guard one_at_a_time(policy_mutex_);
                source = policy_source_;
            }
            if (auto put = put_policy(source, true); !put) spdlog::warn("{}", put.error().text());
        });
    }

    void load_configured_policy() {
        if (config_.policy_object.empty()) return;
        auto file = read_object(config_.policy_object);
        auto loaded = file ? load_policy({file->name, file->bytes, config_.policy_knobs})
                           : Result<PolicyStatus>(std::unexpected(file.error()));
        if (loaded) return;
        spdlog::error("{}; {} decides", loaded.error().text(), config_.policy);
        add_notes({fmt::format("{} decides instead of {}: {}", config_.policy, config_.policy_object,
                               loaded.error().text())});
    }
    // Runs `question` on the engine's thread and waits for its answer.
    template <class R>
    R ask(std::function<R(Core&)> question) {
        auto promise = std::make_shared<std::promise<R>>();
        auto answer = promise->get_future();
        auto closure = [promise, question = std::move(question)](Core& core) {
            promise->set_value(question(core));
        };
        if (!mailbox_.post(std::move(closure)))
            return fail(Code::busy, "ask the engine", {}, "tierd is shutting down");
        return answer.get();
    }

    // Says of each extent which GPUs have bytes of it. Offsets are as clients gave them.
    static void add_gpus(const std::vector<GpuRun>& runs, std::vector<ExtentHeatStatus>& extents) {
        for (const GpuRun& run : runs) {
            auto at =
                std::ranges::upper_bound(extents, run.offset_bytes, {}, &ExtentHeatStatus::offset_bytes);
            if (at != extents.begin()) --at;
            for (; at != extents.end() && at->offset_bytes < run.offset_bytes + run.length_bytes; ++at) {
                bool touches = run.offset_bytes < at->offset_bytes + at->bytes;
                if (touches && std::ranges::find(at->gpus, run.gpu) == at->gpus.end())
                    at->gpus.push_back(run.gpu);
            }
        }
    }

    // Beside the session of the same process; one that has a lease and no weights mapped is listed too.
    static void add_leases(const GpuStatus& gpu, std::vector<SessionStatus>& sessions) {
        for (const LeaseStatus& lease : gpu.leases) {
            const LeaseHolder& holder = lease.holder;
            auto session = std::ranges::find(sessions, holder.pid, &SessionStatus::pid);
            if (session == sessions.end())
                session = sessions.insert(session,
                                          {.pid = holder.pid, .uid = holder.uid, .command = holder.command});
            session->gpu_lease_bytes += lease.lease_bytes;
            session->gpu_requested_bytes += lease.requested_bytes;
            session->gpu_position = std::max(session->gpu_position, lease.position);
        }
    }

    Result<ModelStatus> set_pinned(const std::string& model, bool pinned) {
        return ask<Result<ModelStatus>>([=](Core& core) { return core.set_pinned(model, pinned); });
    }

    void open_disks() {
        auto idle = [this] {
            auto told = ask<Result<bool>>([](Core& core) -> Result<bool> { return core.disks_are_idle(); });
            return told && *told;
        };
        disks_ = std::make_unique<DiskBook>(DiskBook::Parts{
            .state = state_, .memory = &memory_, .measure = config_.measure_disks, .idle = idle});
    }

    // The best source that there is and that the configuration allows. Before the engine's thread begins.
    void choose_source() {
        core_->offer_sources(discover_sources());
        for (const char* name : {"pebs", "ibs", "spe"}) {
            if (config_.sample_source != "auto" && config_.sample_source != name) continue;
            auto sampler = make_sampler(name);
            if (sampler) return core_->start_sampler(name, std::move(*sampler));
            if (config_.sample_source == name) core_->add_notes({"no samples: " + sampler.error().text()});
        }
    }

    Result<std::unique_ptr<SampleSource>> open_source(const std::string& name, PmuUse use,
                                                      SamplerConfig& sampling) {
        if (name == "spe") {
            auto spe = SpeSource::open(use == PmuUse::stores);
            if (!spe) return std::unexpected(spe.error());
            return std::unique_ptr<SampleSource>(std::move(*spe));
        }
        auto config = hardware_source(name, use);
        if (!config) return std::unexpected(config.error());
        sampling.record_cost_ns = measure_source_cost_ns(*config);
        if (name == "ibs") sampling.limits.multiple_of = 16;
        auto source = PerfSource::open(*config);
        if (!source) return std::unexpected(source.error());
        return std::unique_ptr<SampleSource>(std::move(*source));
    }

    Result<std::unique_ptr<Sampler>> make_sampler(const std::string& name) {
        const PmuUse use = pmu_use(config_.sample_event).value_or(PmuUse::loads);
        SamplerConfig sampling;
        sampling.limits.share_of_core = config_.sample_cost_percent / 100.0;
        // PEBS counts one event; the others record accesses of every kind.
        if (name != "pebs") sampling.wanted = [use](const AccessRecord& r) { return is_of_use(use, r); };
        auto source = open_source(name, use, sampling);
        if (!source) return std::unexpected(source.error());
        return std::make_unique<Sampler>(std::move(*source), sampling, [this](SampleBatch batch) {
            mailbox_.post([batch = std::move(batch)](Core& core) { core.take_samples(batch); });
        });
    }

    void open_state() {
        if (config_.state_directory.empty()) return;
        std::error_code error;
        std::filesystem::create_directories(config_.state_directory, error);
        auto opened = StateDb::open(config_.state_directory + "/state.sqlite");
        if (opened)
            state_ = std::move(*opened);
        else
            notes_.push_back("nothing is remembered between runs: " + opened.error().text());
    }

    // The served file behind a descriptor, made known if need be. Reads the header here, on the caller's
    // thread.
    Result<std::shared_ptr<WeightFile>> know(const Fd& fd, const std::string& path, bool may_be_hugetlb,
                                             uid_t uid) {
        auto origin = open_origin(fd, config_.direct_io);
        if (!origin) return std::unexpected(origin.error());
        if (origin->identity.size_bytes == 0)
            return fail(Code::bad_input, "serve", path, "the file is empty");
        FileIdentity identity = origin->identity;
        using Found = Result<std::shared_ptr<WeightFile>>;
        auto known = ask<Found>([identity](Core& core) -> Found { return core.find_file(identity); });
        if (!known || *known != nullptr) return known;
        auto made = make_file(fd, std::move(*origin), path, may_be_hugetlb, uid);
        if (!made) return made;
        disks_->see((*made)->origin);
        return ask<Found>([file = *made](Core& core) { return core.adopt_file(file); });
    }

    Result<std::shared_ptr<WeightFile>> make_file(const Fd& fd, Origin origin, const std::string& path,
                                                  bool may_be_hugetlb, uid_t uid) {
        uint64_t size_bytes = origin.identity.size_bytes;
        auto charge = shares_.charge(uid, size_bytes / config_.extent_bytes + 1, 0, path);
        if (!charge) return std::unexpected(charge.error());
        auto map = read_tensor_map(fd.get(), size_bytes);
        if (!map && map.error().code == Code::io) return std::unexpected(map.error());
        // Asked for outright, hugetlb serves whatever can't be written; else only what engines are known to
        // map read-only.
        bool gguf = map && map->format == WeightFormat::gguf;
        bool huge = may_be_hugetlb && (gguf || config_.huge_pages == HugePages::hugetlb);
        auto layout = map ? ExtentLayout::by_expert(*map, size_bytes, config_.extent_bytes)
                          : ExtentLayout::even(size_bytes, config_.extent_bytes);
        if (auto more = charge->become(layout.count(), map ? map->tensors.size() : 0, path); !more)
            return std::unexpected(more.error());
        auto arena = arenas_.make_arena(size_bytes, config_.extent_bytes, huge && layout.is_even());
        if (!arena) return std::unexpected(arena.error());
        auto file = own(std::make_unique<WeightFile>(std::move(origin), std::move(*arena)));
        file->charge = std::move(*charge);
        file->path = path;
        file->name = model_name(path);
        file->layout = std::move(layout);
        file->extent_count = file->layout.count();
        if (map)
            file->map = std::move(*map);
        else
            file->header_error = map.error().text();
        want_huge_pages(*file);
        file->labels = label_extents(file->map, file->layout);
        load_order(*file);
        return file;
    }

    // close(2) itself may wait for a file system that hangs: then only the closer does.
    std::shared_ptr<WeightFile> own(std::unique_ptr<WeightFile> file) {
        if (file->origin.local_disk) return file;
        return {file.release(), [this](WeightFile* last) { closer_.post([last] { delete last; }); }};
    }

    // For the extents that are as large as a huge page. The others share theirs with neighbours.
    static void want_huge_pages(const WeightFile& file) {
        const ExtentLayout& layout = file.layout;
        if (layout.is_even()) return file.arena.want_huge_pages(0, file.arena.length_bytes());
        for (uint32_t index = 0; index < layout.count(); index++)
            if (layout.bytes(index) == layout.extent_bytes())
                file.arena.want_huge_pages(layout.begin(index), layout.bytes(index));
    }

    // The order of the last cold run, then by offset what that run never touched.
    void load_order(WeightFile& file) {
        std::vector<uint32_t> learned = learned_order(file);
        std::vector<bool> seen(file.extent_count, false);
        for (uint32_t index : learned) {
            if (index >= file.extent_count || seen[index]) continue;
            seen[index] = true;
            file.order.push_back(index);
        }
        file.order_learned = !file.order.empty();
        for (uint32_t index = 0; index < file.extent_count; index++)
            if (!seen[index]) file.order.push_back(index);
    }

    std::vector<uint32_t> learned_order(const WeightFile& file) {
        if (!state_) return {};
        return run_on(memory_, [&] {
            auto loaded = state_->load_order(identity_key(file.origin.identity));
            bool fits = loaded && loaded->layout == file.layout.fingerprint();
            return fits ? std::move(loaded->order) : std::vector<uint32_t>{};
        });
    }

    std::array<std::atomic<uint64_t>, kDenials> refusals_{};
    const EngineConfig config_;
    UserShares shares_;
    Worker closer_{
        "tierd-close"};  // of files on file systems that may hang; all that holds such a file goes before it
    ArenaStore arenas_;
    HeartbeatPage heartbeat_;
    std::shared_ptr<StateDb> state_;
    std::vector<std::string> notes_;
    Mailbox mailbox_;
    std::unique_ptr<Core> core_;
    std::unique_ptr<GpuArbitrator> leases_;
    Worker evictor_;  // after core_: what it still has queued posts to the mailbox only
    Worker memory_;
    std::mutex policy_mutex_;  // one load at a time; guards policy_source_
    PolicySource policy_source_;
    Worker loader_{"tierd-loader"};
    std::unique_ptr<DiskBook> disks_;
    std::thread thread_;
};

}  // namespace

ArenaStore Engine::open_arenas(const EngineConfig& config) {
    return ArenaStore::discover(config.huge_pages, config.budget_bytes, settings_note(config));
}

Result<std::unique_ptr<Engine>> Engine::start(const EngineConfig& config) {
    if (auto checked = check(config); !checked) return std::unexpected(checked.error());
    return start(config, open_arenas(config));
}

Result<std::unique_ptr<Engine>> Engine::start(const EngineConfig& config, ArenaStore arenas) {
    if (auto checked = check(config); !checked) return std::unexpected(checked.error());
    auto heartbeat = make_heartbeat();
    if (!heartbeat) return std::unexpected(heartbeat.error());
    auto event = make_eventfd();
    if (!event) return std::unexpected(event.error());
    auto engine =
        std::make_unique<ThreadedEngine>(config, std::move(arenas), std::move(*heartbeat), std::move(*event));
    if (auto up = engine->set_up(); !up) return std::unexpected(up.error());
    return engine;
}

}  // namespace tierd
