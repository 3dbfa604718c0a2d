#include "tests/sim/scenario.h"

#include <sys/eventfd.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "tests/sim/nonsense_policy.h"
#include "tests/sim/session.h"

namespace tierd::sim {

namespace {

constexpr uint32_t kDeadlineMs = 500, kFaultDeadlineMs = 5000, kEpochMs = 100;
// A waiting thread is answered within the fault deadline, and the epochs and rounds around it.
constexpr uint64_t kLongestWaitNs = 3 * kFaultDeadlineMs * kNsPerMs;
constexpr uint32_t kRestRounds = 5'000;  // in which the machine comes to rest when nothing new happens
constexpr uint32_t kRingRoom = 64;
constexpr uint64_t kSilence = 60 * kNsPerSecond;

class SimReader final : public Reader {
  public:
    explicit SimReader(World& world) : world_(world), event_(::eventfd(0, EFD_CLOEXEC)) {
        world_.reader_fd = event_.get();
    }
    Result<int> add_file(int fd) override {
        if (world_.dice.chance(10)) return fail(Code::no_space, "register weight file");
        auto& table = world_.registered;
        auto room = std::ranges::find(table, nullptr, &World::Registered::file);
        if (room == table.end()) room = table.emplace(table.end());
        *room = {world_.file_of_fd.at(fd), world_.arena_of_fd.at(fd)};
        return static_cast<int>(room - table.begin());
    }
    void remove_file(int file) override {
        for (const Request& request : world_.requests)
            if (!request.is_stat && request.read.file == file)
                world_.violation("a file goes while it is read");
        auto& gone = world_.registered.at(static_cast<size_t>(file));
        if (std::ranges::any_of(world_.arenas.at(gone.arena).cells, &Cell::present))
            world_.violation(fmt::format("{} goes, and leaves memory behind", gone.file->path));
        gone = {};
    }
    bool read(const ReadRequest& request) override {
        if (is_full()) return false;
        const Weather& weather = world_.weather;
        Request one{.read = request};
        one.ready_ns = world_.now_ns + world_.dice.between(20'000, 2'000'000);
        if (world_.dice.chance(weather.slow_reads)) one.ready_ns += world_.dice.between(1, 8000) * kNsPerMs;
        const File& file = *world_.registered.at(static_cast<size_t>(request.file)).file;
        if (world_.dice.chance(weather.read_errors)) {
            constexpr std::array<int64_t, 5> kErrors{-EIO, -ENOMEM, -EAGAIN, -EINVAL, 0};
            one.result = kErrors[world_.dice.below(kErrors.size())];
            if (one.result == 0)
                one.result = static_cast<int64_t>(world_.dice.between(1, request.length_bytes));
        }
        if (!file.direct && request.length_bytes % 4096 != 0 && one.result == -EINVAL) one.result = -EIO;
        world_.requests.push_back(one);
        return true;
    }
    bool stat(uint64_t tag, int fd, void* into) override {
        if (is_full()) return false;
        Request one{.read = {.tag = tag}, .is_stat = true, .into_stat = into, .fd = fd};
        one.ready_ns = world_.now_ns + world_.dice.below(2'000'000);
        if (world_.dice.chance(world_.weather.read_errors)) one.result = -EIO;
        world_.requests.push_back(one);
        return true;
    }
    void flush() override {
        for (Request& request : world_.requests) {
            if (std::exchange(request.submitted, true) || request.is_stat) continue;
            touch_pages(request.read);
        }
    }
    size_t reap(const std::function<void(const Completion&)>& done) override {
        size_t count = 0;
        while (!world_.completions.empty()) {
            Completion completion = world_.completions.front();
            world_.completions.pop_front();
            done(completion);
            count++;
            if (world_.dice.chance(200)) break;
        }
        return count;
    }
    int poll_fd() const override { return event_.get(); }
    uint32_t in_flight() const override { return static_cast<uint32_t>(world_.requests.size()); }

  private:
    bool is_full() {
        return world_.requests.size() >= kRingRoom || world_.dice.chance(world_.weather.ring_full);
    }
    // Submitting a read faults in where it goes.
    void touch_pages(const ReadRequest& read) {
        auto after = world_.arenas.upper_bound(reinterpret_cast<uint64_t>(read.into));
        if (after == world_.arenas.begin()) return;
        auto& [base, memory] = *std::prev(after);
        uint64_t first = (reinterpret_cast<uint64_t>(read.into) - base) / kCell;
        if (first >= memory.cells.size()) return;
        for (uint64_t at = 0; at < read.length_bytes; at += kCell)
            world_.make_present(memory, first + at / kCell, -1);
    }

    World& world_;
    Fd event_;
};

class Scenario final : public Desk {
  public:
    Scenario(uint64_t seed, const RunOptions& options)
        : world_(seed, options.choices, options.mutation, options.verbose),
          dice_(world_.dice),
          evictor_("evict"),
          memory_("state"),
          mailbox_(make_eventfd().value()) {
        choose_machine();
        make_core();
    }
    ~Scenario() override { core_.reset(); }

    RunCounts run();

    // --- Desk
    void post(Mailbox::Closure closure) override { mailbox_.post(std::move(closure)); }
    std::shared_ptr<WeightFile> make_file(File& file) override;
    bool heartbeat_is_late() override { return world_.now_ns - heartbeat_.beat_ns > kDeadlineMs * kNsPerMs; }

  private:
    void choose_machine();
    void make_core();
    TensorMap experts_of(uint64_t size_bytes);

    void step();
    bool turn();
    bool others();
    bool work();
    void administer();
    void mischief();
    void new_process();
    void check_accounts();
    void check();
    void come_to_rest();
    void check_nobody_waits();
    void end_by_stopping();
    void end_by_leaving();
    template <class Question>
    void ask(const char* what, Question question) {
        world_.say("administrator: {}", what);
        mailbox_.post([this, question](Core& core) {
            check_accounts();  // what was used before a capacity is lowered
            question(core);
            check_accounts();
        });
    }

    World world_;
    Dice& dice_;
    EngineConfig config_;
    Topology topology_;
    wire::Heartbeat heartbeat_{};
    Worker evictor_, memory_;
    Mailbox mailbox_;
    std::unique_ptr<Core> core_;
    std::vector<std::unique_ptr<Session>> sessions_;
    std::vector<std::shared_ptr<WeightFile>>
        made_;  // kept, so that neither addresses nor descriptors come again
    std::map<std::string, uint64_t> used_before_;  // of each tier
    bool quiet_ = false;                           // nothing new happens
    bool going_on_ = true;
    RunCounts counts_;
};

// --- the machine that this seed is about

void Scenario::choose_machine() {
    constexpr std::array<uint64_t, 10> kExtents{64 * kKiB, 64 * kKiB,  64 * kKiB,  64 * kKiB,  64 * kKiB,
                                                64 * kKiB, 512 * kKiB, 512 * kKiB, 512 * kKiB, 2 * kMiB};
    config_.extent_bytes = kExtents[dice_.below(kExtents.size())];
    config_.budget_bytes = dice_.between(kMinBudgetExtents, 40) * config_.extent_bytes;
    config_.io_depth = static_cast<uint32_t>(dice_.between(1, 8));
    config_.read_ahead = dice_.chance(900);
    config_.epoch_ms = kEpochMs;
    config_.deadline_ms = kDeadlineMs;
    config_.fault_deadline_ms = kFaultDeadlineMs;
    config_.sample_source = dice_.chance(300) ? "hint" : dice_.chance(300) ? "auto" : "off";
    constexpr std::array<const char*, 4> kPolicies{"auto", "lru", "sweep", "nonsense"};
    config_.policy = world_.is_fuzzed ? "nonsense" : kPolicies[dice_.below(kPolicies.size())];
    for (int node = 0; node < 3; node++) {
        MemoryNode& one = topology_.nodes.emplace_back();
        one.node = node;
        one.total_bytes = 64 * config_.extent_bytes;
        one.has_cpus = node == 0;
    }
    config_.tiers.push_back({.name = "dram0",
                             .nodes = {0},
                             .capacity_bytes = config_.budget_bytes,
                             .memory_bytes = 64 * config_.extent_bytes,
                             .latency_ns = 100,
                             .bandwidth_bytes_per_s = 20 * kGiB});
    if (dice_.chance(450)) {
        for (int node = 1; node <= static_cast<int>(dice_.between(1, 2)); node++)
            config_.tiers.push_back(
                {.name = node == 1 ? "cxl1" : "hbm2",
                 .kind = node == 1 ? TierKind::cxl : TierKind::hbm,
                 .nodes = {node},
                 .capacity_bytes = dice_.between(kMinBudgetExtents, 30) * config_.extent_bytes,
                 .memory_bytes = 64 * config_.extent_bytes,
                 .latency_ns = node == 1 ? 300u : 150u,
                 .bandwidth_bytes_per_s = (node == 1 ? 8 : 90) * kGiB});
    }
    if (dice_.chance(600)) {
        uint32_t worst = dice_.chance(200) ? 200 : 30;
        world_.weather = {.read_errors = static_cast<uint32_t>(dice_.below(worst)),
                          .slow_reads = static_cast<uint32_t>(dice_.below(worst)),
                          .memory_errors = static_cast<uint32_t>(dice_.below(worst)),
                          .move_errors = static_cast<uint32_t>(dice_.below(worst)),
                          .ring_full = static_cast<uint32_t>(dice_.below(worst)),
                          .continue_fails = static_cast<uint32_t>(dice_.below(worst))};
    }
    if (dice_.chance(200)) world_.hugetlb_free = dice_.between(2, 20) * 2 * kMiB;
    for (uint64_t i = dice_.between(1, 4); i > 0; i--) {
        auto file = std::make_unique<File>();
        file->number = i;
        file->path = fmt::format("/models/m{}/model.gguf", i);
        file->identity = {.device = 1,
                          .inode = i,
                          .size_bytes = dice_.between(1, 24 * config_.extent_bytes),
                          .mtime_ns = 1,
                          .ctime_ns = 1};
        file->local_disk = dice_.chance(700);
        file->direct = dice_.chance(700);
        world_.files.push_back(std::move(file));
    }
}

void Scenario::make_core() {
    heartbeat_.beat_ns = world_.now_ns;
    auto policy = config_.policy == std::string("nonsense") ? make_nonsense_policy(world_, quiet_)
                                                            : make_builtin_policy(config_.policy);
    core_ = std::make_unique<Core>(config_,
                                   Core::Parts{.reader = std::make_unique<SimReader>(world_),
                                               .bounce = BounceBuffers::make(config_.extent_bytes).value(),
                                               .policy = std::move(policy),
                                               .table = ExtentTable::make().value(),
                                               .watch = FileWatch::make().value(),
                                               .memory_events = {},
                                               .readiness = Readiness::make().value(),
                                               .heartbeat = &heartbeat_,
                                               .mailbox = &mailbox_,
                                               .evictor = &evictor_,
                                               .state_thread = &memory_,
                                               .state = nullptr});
    check_accounts();
}

// The engine's accounts: none grows beyond its capacity, and none is below the truth. A capacity may be lowered below what is
// in use.
void Scenario::check_accounts() {
    std::map<int, uint64_t> node_may;
    for (const TierStatus& tier : core_->tier_admin.tiers()) {
        uint64_t& before = used_before_[tier.name];
        if (tier.used_bytes > std::max(before, tier.capacity_bytes))
            world_.violation(fmt::format("tier {} grows to {} bytes and may have {}", tier.name,
                                         tier.used_bytes, tier.capacity_bytes));
        before = tier.used_bytes;
        node_may[tier.nodes.empty() ? 0 : tier.nodes.front()] += tier.used_bytes;
    }
    uint64_t all = 0, all_may = 0;
    for (auto& [node, may] : node_may) all_may += may;
    for (auto& [node, bytes] : world_.node_bytes) {
        all += bytes;
        if (world_.placement_is_ours && bytes > node_may[node])
            world_.violation(
                fmt::format("node {} holds {} bytes, {} are accounted for", node, bytes, node_may[node]));
    }
    if (all > all_may)
        world_.violation(fmt::format("{} bytes are in memory, {} are accounted for", all, all_may));
}

TensorMap Scenario::experts_of(uint64_t size_bytes) {
    TensorMap map;
    map.format = WeightFormat::safetensors;
    uint64_t at = dice_.below(3 * kCell);
    for (uint16_t i = 0; at + 64 * kKiB < size_bytes; i++) {
        uint64_t end = std::min(size_bytes, at + 64 * kKiB + dice_.below(128 * kKiB));
        bool expert = dice_.chance(700);
        Tensor& tensor = map.tensors.emplace_back();
        tensor.begin_bytes = at;
        tensor.end_bytes = end;
        tensor.layer = static_cast<uint16_t>(i / 8);
        tensor.expert = static_cast<uint16_t>(expert ? i % 4 : TIERD_NO_EXPERT);
        tensor.role = static_cast<uint8_t>(expert ? TIERD_ROLE_EXPERT : TIERD_ROLE_ATTENTION);
        at = end;
    }
    return map;
}

std::shared_ptr<WeightFile> Scenario::make_file(File& file) {
    uint64_t size = file.identity.size_bytes;
    TensorMap map = dice_.chance(350) ? experts_of(size) : TensorMap{};
    auto layout = map.tensors.empty() ? ExtentLayout::even(size, config_.extent_bytes)
                                      : ExtentLayout::by_expert(map, size, config_.extent_bytes);
    Backing backing = dice_.chance(500) ? Backing::shmem_small : Backing::shmem_thp;
    if (config_.extent_bytes == 2 * kMiB && layout.is_even() && dice_.chance(500)) backing = Backing::hugetlb;
    Fd fd(::eventfd(0, EFD_CLOEXEC));
    const int number = fd.get();
    world_.file_of_fd[number] = &file;
    Origin origin{
        .fd = std::move(fd), .direct = file.direct, .local_disk = file.local_disk, .identity = file.identity};
    uint64_t length = round_up(size, config_.extent_bytes);
    bool folios = backing == Backing::shmem_thp && dice_.chance(500);
    auto arena = Arena::adopt(Fd(), Fd(), length, backing, folios).value();
    Memory memory{
        .file = &file, .generation = file.generation, .size_bytes = size, .backing = backing, .cells = {}};
    memory.cells.resize(length / kCell);
    world_.arena_of_fd[number] = reinterpret_cast<uint64_t>(arena.at(0));
    world_.arenas[reinterpret_cast<uint64_t>(arena.at(0))] = std::move(memory);
    auto served = std::make_shared<WeightFile>(std::move(origin), std::move(arena));
    served->path = file.path;
    served->name = fmt::format("m{}", file.number);
    served->layout = std::move(layout);
    served->extent_count = served->layout.count();
    served->map = std::move(map);
    served->labels = label_extents(served->map, served->layout);
    for (uint32_t i = 0; i < served->extent_count; i++) served->order.push_back(i);
    if (dice_.chance(300)) {
        served->order_learned = true;
        for (uint32_t i = 1; i < served->extent_count; i++)
            std::swap(served->order[i], served->order[dice_.below(i + 1)]);
    }
    made_.push_back(served);
    return served;
}

void Scenario::new_process() {
    auto process = std::make_unique<Process>();
    process->index = world_.processes.size() + 1;
    process->pid = static_cast<pid_t>(1000 + process->index);
    world_.processes.push_back(std::move(process));
    sessions_.push_back(std::make_unique<Session>(world_, *this, *world_.processes.back()));
}

// --- steps

bool Scenario::turn() {
    going_on_ = going_on_ && core_->loop.turn();
    check_accounts();
    return going_on_;
}

// One thing of the machine's own: the disk, the evictor, the migrator. False: there is nothing to do.
bool Scenario::work() {
    uint64_t which = dice_.below(4);
    for (uint64_t tried = 0; tried < 4; tried++, which = (which + 1) % 4) {
        if (which < 2) {
            std::vector<size_t> ready;
            for (size_t i = 0; i < world_.requests.size(); i++)
                if (world_.requests[i].submitted && world_.requests[i].ready_ns <= world_.now_ns)
                    ready.push_back(i);
            if (ready.empty()) continue;
            world_.progress_request(dice_.pick(ready));
            return true;
        }
        if (which == 2) {
            Worker* worker = dice_.chance(800) ? &evictor_ : &memory_;
            if (world_.jobs.at(worker).empty()) continue;
            world_.run_job(worker);
            return true;
        }
        if (world_.moves.empty()) continue;
        world_.progress_move(dice_.below(world_.moves.size()));
        return true;
    }
    return false;
}

// Something of the sessions that is due. False: there is nothing.
bool Scenario::others() {
    if (sessions_.empty()) return false;
    size_t first = dice_.below(sessions_.size());
    for (size_t i = 0; i < sessions_.size(); i++)
        if (sessions_[(first + i) % sessions_.size()]->react()) return true;
    return false;
}

void Scenario::step() {
    world_.step++;
    uint64_t choice = dice_.below(1000);
    if (choice < 330)
        turn();
    else if (choice < 580)
        work();
    else if (choice < 700)
        others();
    else if (choice < 960 && !sessions_.empty())
        dice_.pick(sessions_)->act();
    else if (choice < 985)
        administer();
    else if (choice < 992)
        mischief();
    else if (sessions_.size() < 6)
        new_process();
    check();
}

void Scenario::administer() {
    std::string model = fmt::format("m{}", dice_.between(1, 4));
    uint64_t extents = dice_.between(4, 40);
    uint64_t bytes = extents * config_.extent_bytes, job = dice_.between(1, 6);
    constexpr std::array<const char*, 4> kTiers{"dram0", "cxl1", "hbm2", "slow"};
    std::string tier = kTiers[dice_.below(kTiers.size())];
    switch (dice_.below(14)) {
        case 0:
            return ask("preload", [=](Core& core) { (void)core.admin.preload(model); });
        case 1:
            return ask("pin", [=](Core& core) { (void)core.admin.set_pinned(model, true); });
        case 2:
            return ask("unpin", [=](Core& core) { (void)core.admin.set_pinned(model, false); });
        case 3:
            return ask("evict", [=](Core& core) { (void)core.admin.evict(model); });
        case 4:
        case 5:
            return ask("budget", [=](Core& core) { (void)core.tier_admin.set_budget(bytes); });
        case 6:
            return ask("resize tier",
                       [=, this](Core& core) { (void)core.tier_admin.resize(tier, bytes, topology_); });
        case 7:
            return ask("drain tier", [=](Core& core) { (void)core.tier_admin.drain(tier, false); });
        case 8:
            return ask("remove tier", [=](Core& core) { (void)core.tier_admin.drain(tier, true); });
        case 9:
        case 10: {
            TierOverride said{.name = tier, .capacity_bytes = bytes};
            if (tier == "slow") said.kind = TierKind::cxl;
            return ask("add tier", [=, this](Core& core) { (void)core.tier_admin.add(said, topology_); });
        }
        case 11:
            return ask("cancel job", [=](Core& core) { (void)core.placement.cancel_job(job); });
        case 12:
            return ask("trace", [=](Core& core) {
                PolicyHost& policy = core.placement.policy();
                (void)(job > 3 ? policy.start_trace() : policy.stop_trace());
            });
        default:
            return ask("look", [=](Core& core) {
                (void)core.admin.status();
                (void)core.admin.models();
                (void)core.admin.sessions();
                (void)core.admin.tensors(model);
                (void)core.admin.heatmap(model);
                (void)core.placement.job(job);
            });
    }
}

void Scenario::mischief() {
    switch (dice_.below(4)) {
        case 0:
            return world_.change(*dice_.pick(world_.files));
        case 1:
            world_.stall_in_calls = dice_.between(1, 60);
            world_.stall_ns = dice_.between(1, 900) * kNsPerMs;
            return world_.say("the engine's thread will stand still for {} ms", world_.stall_ns / kNsPerMs);
        case 2: {  // somebody drops a page of an arena
            if (world_.arenas.empty()) return;
            auto& [base, memory] =
                *std::next(world_.arenas.begin(), static_cast<ptrdiff_t>(dice_.below(world_.arenas.size())));
            uint64_t cell = dice_.below(memory.cells.size());
            // Mapped by huge pages, its hole would be shown as zeros; only pages that are small are ever taken out.
            bool huge = memory.backing != Backing::shmem_small && config_.extent_bytes == 2 * kMiB;
            const char* at = reinterpret_cast<const char*>(base);
            for (const Request& request : world_.requests)
                if (!request.is_stat && request.read.into >= at &&
                    request.read.into < at + memory.cells.size() * kCell)
                    return;
            if (!memory.cells[cell].present() || huge) return;
            world_.say("page {} of {} is lost", cell, memory.file->path);
            return world_.drop(memory, at, cell);
        }
        default: {  // the kernel moves a page by itself
            if (world_.arenas.empty() || config_.tiers.size() < 2) return;
            auto& [base, memory] =
                *std::next(world_.arenas.begin(), static_cast<ptrdiff_t>(dice_.below(world_.arenas.size())));
            Cell& cell = memory.cells[dice_.below(memory.cells.size())];
            if (!cell.present()) return;
            world_.placement_is_ours = false;
            world_.node_bytes[cell.node] -= kCell;
            cell.node = static_cast<int8_t>(dice_.below(3));
            world_.node_bytes[cell.node] += kCell;
        }
    }
}

// --- what must hold

void Scenario::check() {
    for (auto& session : sessions_)
        if (session->longest_wait_ns() > kLongestWaitNs)
            world_.violation(fmt::format("process {} has waited for {} ms", session->process().index,
                                         session->longest_wait_ns() / kNsPerMs));
}

void Scenario::check_nobody_waits() {
    for (auto& session : sessions_)
        if (session->waits())
            world_.violation(
                fmt::format("nothing is under way, and process {} waits", session->process().index));
}

// Nothing new happens, and all that is under way ends. Then nobody may be waiting for anything.
void Scenario::come_to_rest() {
    Weather weather = std::exchange(world_.weather, {});
    quiet_ = true;
    world_.stall_in_calls = 0;
    for (Request& request : world_.requests) request.ready_ns = 0;
    uint32_t epochs_at_rest = 0;
    for (uint32_t round = 0; epochs_at_rest < 3; round++) {
        // With hardly any memory a policy's read-aheads can push each other out for as long as it believes in them.
        bool somebody_waits = std::ranges::any_of(sessions_, [](auto& session) { return session->waits(); });
        bool somebody_lives =
            std::ranges::any_of(world_.processes, [](auto& process) { return process->alive; });
        if (round == kRestRounds && (somebody_waits || !somebody_lives))
            world_.violation("the machine does not come to rest");
        if (round > kRestRounds) break;
        world_.step++;
        bool moved = others();
        moved = work() || moved;
        for (Request& request : world_.requests) request.ready_ns = std::min(request.ready_ns, world_.now_ns);
        bool idle = !moved && world_.idle() && !world_.is_ready(mailbox_.poll_fd());
        if (idle) world_.now_ns += kEpochMs * kNsPerMs;
        if (!turn()) return;
        epochs_at_rest = idle && world_.idle() ? epochs_at_rest + 1 : 0;
        check();
    }
    check_nobody_waits();
    world_.weather = weather;
    quiet_ = false;
}

void Scenario::end_by_stopping() {
    world_.say("tierd is asked to stop");
    mailbox_.post([](Core& core) { core.loop.request_stop(monotonic_ns() + 2 * kNsPerSecond); });
    for (uint32_t round = 0; going_on_; round++) {
        if (round == kRestRounds) world_.violation("tierd does not stop");
        world_.step++;
        others();
        work();
        turn();
    }
    core_->loop.run();
    while (others()) {
    }
    for (auto& process : world_.processes) process->hung_up = true;  // its descriptors are closed
    while (others()) {
    }
    check_nobody_waits();
}

void Scenario::end_by_leaving() {
    world_.say("everybody leaves");
    for (auto& session : sessions_) session->die();
    come_to_rest();
    world_.now_ns += kSilence;  // policies read ahead for a while yet
    come_to_rest();
    for (const ModelStatus& model : core_->admin.models())
        mailbox_.post([number = std::to_string(model.file)](Core& core) {
            (void)core.admin.set_pinned(number, false);
            (void)core.admin.evict(number);
        });
    come_to_rest();
    EngineStatus status = core_->admin.status();
    if (status.resident_bytes > 0)
        world_.violation(fmt::format("{} bytes stay accounted for", status.resident_bytes));
    if (world_.present_bytes() > 0)
        world_.violation(fmt::format("{} bytes stay in memory", world_.present_bytes()));
    if (world_.buffers_taken > 0)
        world_.violation(fmt::format("{} buffers were never given back", world_.buffers_taken));
    if (status.sessions > 0) world_.violation("a session is kept that has gone");
    if (status.models > 0) world_.violation(fmt::format("{} files are kept that nobody uses", status.models));
    if (std::ranges::any_of(world_.registered, [](const World::Registered& r) { return r.file != nullptr; }))
        world_.violation("a file stays registered");
}

RunCounts Scenario::run() {
    new_process();
    uint64_t steps = dice_.between(200, 700);
    uint64_t pause_at = dice_.chance(500) ? dice_.below(steps) : steps;
    for (uint64_t i = 0; i < steps; i++) {
        step();
        if (i == pause_at) come_to_rest();
    }
    come_to_rest();
    EngineCounters counters = core_->admin.status().counters;
    dice_.chance(400) ? end_by_stopping() : end_by_leaving();
    counts_.runs = 1;
    counts_.steps = world_.step;
    counts_.touches_waited = counters.faults_missing + counters.faults_joined + counters.faults_minor;
    counts_.fills = counters.fills_demand + counters.fills_read_ahead + counters.fills_preload;
    counts_.evictions = counters.evictions;
    counts_.moves = counters.moves;
    counts_.fall_backs = counters.fall_backs_commanded;
    counts_.generations = counters.generations_changed;
    return counts_;
}

}  // namespace

void RunCounts::add(const RunCounts& other) {
    runs += other.runs;
    steps += other.steps;
    touches_waited += other.touches_waited;
    fills += other.fills;
    evictions += other.evictions;
    moves += other.moves;
    fall_backs += other.fall_backs;
    generations += other.generations;
}

RunCounts run_seed(uint64_t seed, const RunOptions& options) {
    return Scenario(seed, options).run();
}

}  // namespace tierd::sim
