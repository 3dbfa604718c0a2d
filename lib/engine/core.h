// core.h - the engine's thread: every extent's life, from the first touch to the last eviction.
//
// Owns:      the extent table, the weight files, the clients, the memory account, the reader and the policy.
// Invariant: an extent's state changes here and nowhere else (see next_state); CONTINUE is only ever called
//            on a resident extent, memory is only ever released from an evicting one, and a read is only ever
//            aimed at a filling one.
// Callers:   the engine's thread; everybody else posts to the mailbox (engine.cc).
// Blocks:    never on the disk, on a client or on a lock held over I/O. The longest calls are UFFDIO_CONTINUE
//            (about 0.1 ms a 2 MiB extent of small pages) and the page faults of submitting a read into fresh
//            memory.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <unordered_map>

#include "lib/base/worker.h"
#include "lib/engine/client.h"
#include "lib/engine/engine.h"
#include "lib/engine/extent_table.h"
#include "lib/engine/fall_back_reason.h"
#include "lib/engine/fault_profile.h"
#include "lib/engine/heat_snapshot.h"
#include "lib/engine/inotify.h"
#include "lib/engine/lease_table.h"
#include "lib/engine/mailbox.h"
#include "lib/engine/policy_record.h"
#include "lib/engine/readiness.h"
#include "lib/engine/run_delay.h"
#include "lib/engine/sampler.h"
#include "lib/engine/trace_recorder.h"
#include "lib/io/bounce_buffers.h"
#include "lib/io/reader.h"
#include "lib/migrate/migrator.h"
#include "lib/sample/heat.h"
#include "lib/sample/hints.h"
#include "lib/sample/sources.h"
#include "lib/session/wire.h"
#include "lib/state/state_db.h"
#include "lib/tier/memory_events.h"
#include "lib/tier/tier_table.h"

struct statx;

namespace tierd {

// Why an extent is being filled; the order is the order of precedence.
enum class FillReason : uint8_t { demand, read_ahead, guess, preload };

enum class Started : uint8_t {
    yes,
    no_room,       // the budget has no room now
    no_huge_page,  // the budget has, the hugetlb pool has not
    no_buffer,     // all bounce buffers are taken
    held_up,       // files that may hang have enough reads under way
};

// A fill under way.
struct Fill {
    FillReason reason = FillReason::demand;
    uint8_t parts = 0;       // reads that have not completed
    int failure = 0;         // of a part: a negative errno
    uint8_t attempts = 0;    // reads tried again after an error
    char* bounce = nullptr;  // where the bytes pass through; null: read in place
    uint64_t started_ns = 0;
    uint64_t read_ns = 0;                // when the bytes were there
    std::unique_ptr<struct statx> stat;  // of an identity check under way
};

// A toucher that waits for an extent.
struct Waiter {
    uint64_t client = 0;
    uint64_t address = 0;
    uint64_t arrived_ns = 0;
};

// A resident extent on its way to another memory tier. It stays resident and mapped all the while; only its eviction waits.
// Its memory is granted in both tiers until it has arrived.
struct Move {
    uint8_t from = kNoTier;
    uint8_t to = kNoTier;
    bool then_evict = false;  // wanted away meanwhile
    bool not_whole = false;   // because some of its memory is gone
};

// Resident extents still to be mapped into a client ahead of its touches.
struct MapAhead {
    uint64_t client = 0;
    uint64_t file = 0;
    uint32_t next = 0;  // extent index
    uint32_t end = 0;
    uint64_t not_before_ns = 0;  // the answer to the mapping goes first: this keeps a processor busy
};

// A resident extent that stands at that address by small entries of the page table.
struct HugeWish {
    uint64_t client = 0;
    uint64_t address = 0;
};

class Core {
  public:
    struct Parts {
        std::unique_ptr<Reader> reader;
        BounceBuffers bounce;
        std::unique_ptr<Policy> policy;
        ExtentTable table;
        FileWatch watch;
        MemoryEvents memory_events;
        Readiness readiness;
        wire::Heartbeat* heartbeat;  // the page that clients watch
        Mailbox* mailbox;
        Worker* evictor;
        Worker* memory;                             // writes what was learned into the state database
        std::shared_ptr<StateDb> state;             // used on `memory`'s thread only; may be null
        GpuArbitrator* leases = nullptr;            // GPUs' memory; null: there is none
        std::function<void()> grow_policy = [] {};  // asks for grown tables; see policy_room()
    };
    Core(const EngineConfig& config, Parts parts);
    ~Core();

    void run();  // until request_stop() was honoured
    // One round of it: waits for events, at most until the next epoch, and does all that can be done. False when that was
    // the last.
    bool turn();

    // --- sessions (core_files.cc, core_faults.cc)
    Result<uint64_t> open_client(const Peer& peer, Fd notice, std::string command, uint64_t cgroup);
    void close_client(uint64_t number);
    std::shared_ptr<WeightFile> find_file(const FileIdentity& identity) const;
    // Makes `file` known, unless its twin came first; returns the one that counts.
    Result<std::shared_ptr<WeightFile>> adopt_file(std::shared_ptr<WeightFile> file);
    Result<void> attach_client(uint64_t client, const std::shared_ptr<WeightFile>& file);
    Result<void> map_region(uint64_t client, const RegionRequest& request, Fd userfaultfd);
    Result<void> unmap_region(uint64_t client, uint64_t address, uint64_t length_bytes);
    Result<void> will_need(uint64_t client, uint64_t address, uint64_t length_bytes);
    void fallen_back(uint64_t client, uint32_t sequence, int status);

    // --- administrators (core_status.cc)
    EngineStatus status() const;
    std::vector<ModelStatus> models() const;
    std::vector<SessionStatus> sessions() const;
    std::vector<TierStatus> tiers() const;
    std::map<dev_t, uint64_t> bytes_on_devices() const;  // of files that are known
    bool disks_are_idle() const;                         // nothing was read lately, and nobody waits
    std::vector<FaultStageStatus> faults() const;
    SlowFault slowest_fault() const { return slowest_; }
    Result<ModelDetail> tensors(const std::string& model);
    Result<JobStatus> start_preload(const std::string& model);
    Result<JobStatus> job(uint64_t number);
    Result<ModelStatus> set_pinned(const std::string& model, bool pinned);
    Result<uint64_t> evict_model(const std::string& model);
    Result<void> set_budget(uint64_t budget_bytes);

    // --- tiers (core_tiers.cc); the machine is looked at by the caller, since that may take a while
    Result<TierStatus> add_tier(const TierOverride& said, const Topology& topology);
    Result<TierStatus> resize_tier(const std::string& name, uint64_t capacity_bytes,
                                   const Topology& topology);
    // Empties it: a job. `remove`: and forgets it then.
    Result<JobStatus> drain_tier(const std::string& name, bool remove);
    Result<JobStatus> cancel_job(uint64_t number);
    void on_topology(const Topology& topology);
    void add_notes(std::vector<std::string> notes);

    // --- policies (core_policy.cc). An object is loaded elsewhere, against tables of policy_room() rows, and put in place here.
    struct PolicyRoom {
        std::shared_ptr<BpfTables> tables;  // null, or too small: make new ones
        uint32_t rows = 0;
        PolicyView view = {};  // for tierd/init: figures only
    };
    PolicyRoom policy_room();
    // Puts the object in the place of the policy that decides, between two events. Errors: busy when the tables were
    // changed meanwhile, or the engine stops; then nothing has changed.
    struct NewPolicy {
        std::shared_ptr<BpfObject> object;
        std::vector<std::string> log;  // of its tierd/init
        bool is_reload = false;
    };
    Result<void> install_policy(const NewPolicy& policy);
    Result<void> unload_policy();
    void on_policy_news();
    PolicyStatus policy() const;

    // --- a recording (core_trace.cc)
    Result<TraceChunk> start_trace();
    Result<TraceChunk> fetch_trace();
    Result<TraceChunk> stop_trace();

    // --- statistics of accesses (core_samples.cc)
    void offer_sources(std::vector<SourceOffer> offers) { offers_ = std::move(offers); }
    // The processor's samples are used from now on, and hints no longer.
    void start_sampler(const std::string& source, std::unique_ptr<Sampler> sampler);
    void take_samples(const SampleBatch& batch);
    std::vector<SourceStatus> sources() const;
    void pause_sampling(bool paused);
    HeatSnapshot heat_snapshot();
    Result<HeatmapStatus> heatmap(const std::string& model);

    // Sends every session back to the kernel's mapping; run() returns when they answered or `deadline_ns` is
    // past.
    void request_stop(uint64_t deadline_ns);

  private:
    struct Job {
        JobStatus status;
        std::deque<ExtentId> queue;
        uint8_t drains = kNoTier;  // the tier that it empties
        bool removes = false;      // and forgets
        ExtentId next = 0;         // where its pass over the table goes on
        uint64_t leaving = 0;      // bytes that this pass sent away
        uint64_t stuck = 0;        // and those that it could not
    };

    // core.cc
    void wait_for_events();
    void on_event(uint64_t what);
    void on_epoch();
    bool finished_stopping();
    void beat();
    bool overslept();
    PolicyView view();
    WeightFile& file_of(ExtentId id) { return *slots_[table_[id].model]; }
    // The file that the row belongs to now, or null: queues and policies may name rows whose file has gone.
    WeightFile* owner_of(ExtentId id);
    void set_state(ExtentId id, tierd_extent_state next);

    // core_faults.cc
    void serve_faults(Client& client);
    void handle_fault(Client& client, const Fault& fault);
    // `foreseen`: nobody has touched it yet. Such a touch brings no other slices of its expert: each would foresee one more
    // touch, and where not all of them fit they would evict and read each other for ever.
    void note_touch(WeightFile& file, ExtentId id, Touch touch, bool foreseen = false);
    bool map_extent(Client& client, const Region& region, ExtentId id, uint64_t touched,
                    bool page_only = false);
    void map_for_all(WeightFile& file, ExtentId id);
    bool map_for(Client& client, const WeightFile& file, ExtentId id);
    void map_some_ahead();
    bool everything_fits() const;
    void check_deadlines();

    // core_fills.cc
    void want(ExtentId id, Client& client, uint64_t address, uint64_t arrived_ns);
    void pump();
    bool read_one_ahead();
    bool pump_preload(Job& job);
    Started start_fill(ExtentId id, FillReason reason);
    bool free_huge_page();
    bool issue_read(ExtentId id);
    void on_completion(const Completion& completion);
    uint32_t part_bytes(ExtentId id, uint32_t part);
    void on_part(ExtentId id, uint32_t part, int64_t result);
    void on_read(ExtentId id);
    void on_stat(ExtentId id, int64_t result);
    Fill end_fill(ExtentId id);
    void fill_seams(ExtentId id, FillReason reason);
    void publish(ExtentId id);
    void map_one_filled();
    void fail_fill(ExtentId id, const std::string& why);
    void abandon_fill(ExtentId id, FallBackReason reason);
    void settle_waiters(ExtentId id, uint64_t started_ns, uint64_t read_ns);
    uint64_t queued_demand_bytes();
    uint64_t wished_bytes(const std::deque<ExtentId>& queue);
    bool pump_one(std::deque<ExtentId>& queue, FillReason reason, bool patient = false);
    bool may_read(const WeightFile& file) const;
    uint32_t local_reads() const { return reads_in_flight_ - remote_reads_; }

    // core_policy.cc
    void take_decisions();
    Refusal propose_read_ahead(ExtentId id, std::deque<ExtentId>& queue);
    Refusal propose_eviction(ExtentId id);
    Refusal watch_extent(ExtentId id);
    void count_decision(Proposal proposal, Refusal refusal);
    void begin_policy_epoch();
    void tend_leases();
    void mark_extents_on_gpus();
    void eject_policy(const std::string& reason);
    void put_in_place(std::unique_ptr<Policy> policy, BpfPolicy* bpf);
    void check_policy();
    void describe_object(PolicyStatus& status) const;
    Result<void> share_tables(std::shared_ptr<BpfTables> tables);
    void publish_model(const WeightFile& file);
    void publish_usage();
    void grow_if_needed();
    void tell_first_session(WeightFile& file, const Client& client);
    void tell_last_session(WeightFile& file);

    // core_evictions.cc
    // `wanted`: what the memory is for, where that is a read-ahead.
    bool make_room(uint64_t bytes, bool for_demand, ExtentId wanted = kNoExtent);
    // `not_whole`: some of its memory is gone or stands in two tiers; then it goes even if it is pinned.
    bool start_eviction(ExtentId id, bool not_whole = false);
    void release_memory(ExtentId id, bool was_published);
    void on_released(ExtentId id, bool was_published);
    uint64_t evict_by_age(uint64_t bytes, uint8_t tier = kNoTier);
    void keep_watermark();

    // core_huge.cc
    void wish_huge(Client& client, const Region& region, ExtentId id, AddressRange range);
    AddressRange huge_range(const HugeWish& wish);
    AddressRange next_huge_run(uint64_t& client);
    void map_some_huge();
    void on_mapped_huge(uint64_t client, AddressRange run, int error);

    // core_moves.cc
    void propose_moves();
    bool is_exchange(const ProposedMove& down, const ProposedMove& up);
    uint8_t near_its_reader(const ProposedMove& move) const;
    void bring_near();
    Refusal start_move(ExtentId id, uint8_t to, uint32_t priority, bool for_exchange = false);
    void on_moved(const MoveResult& result);
    void check_placements();
    void suspect_placements();
    size_t check_placement(ExtentId id);
    bool gather(ExtentId id);
    Migrator& migrator();
    void reader_waited(WaitKind kind, uint64_t begun_ns);
    int preferred_node(uint8_t tier);
    PageRange pages_of(ExtentId id);

    // core_tiers.cc
    void show_tiers();
    void tend_tiers();
    void watch_memory();
    bool drain_some(Job& job);
    bool next_pass(Job& job);
    uint64_t shrink_tier(Tier& tier, uint64_t bytes);
    void finish_drain(Job& job);
    uint64_t pinned_in(uint8_t tier);
    void tell_policy(uint8_t tier);
    TierStatus describe(const Tier& tier) const;
    Job* drain_of(uint8_t tier);

    // core_samples.cc
    void count_touch(ExtentId id, uint64_t now_ns);
    bool map_hinted(Client& client, const Region& region, ExtentId id, const Fault& fault,
                    uint64_t arrived_ns);
    void note_hinted(Client& client, const WeightFile& file, ExtentId id, const Fault& fault,
                     uint64_t arrived_ns);
    static bool make_waker(Client& client);
    void retry_touch(uint64_t number, uint64_t address);
    void sample_epoch();
    void mark_hintable(uint64_t now_ns);
    void see_tier_boundaries();
    void expose_some();
    bool hint(ExtentId id);
    void refresh_heat(uint64_t now_ns);
    void account_hints();
    void note_mapping(const Client& client, const Region& region);
    void note_unmapping(const Client& client, uint64_t address, uint64_t length_bytes);
    void note_huge(uint64_t client, AddressRange run);
    bool is_huge(ExtentId id) const { return id < huge_.size() && huge_[id]; }

    // core_files.cc
    void drop_file_if_idle(const std::shared_ptr<WeightFile>& file);
    void close_file(const std::shared_ptr<WeightFile>& file);
    void fill_table(WeightFile& file);
    void mark_changed(WeightFile& file);
    void check_watched(int watch);
    void remember_order(WeightFile& file);
    void order_fall_back(Client& client, FallBackOrder order, FallBackReason reason);
    void lose_client(Client& client, FallBackReason reason);
    Client* find_client(uint64_t number);

    // core_status.cc
    Result<std::vector<std::shared_ptr<WeightFile>>> files_named(const std::string& model) const;
    ModelStatus describe(const WeightFile& file) const;
    void advance_jobs();

    const EngineConfig config_;
    std::unique_ptr<Reader> reader_;
    BounceBuffers bounce_;
    std::unique_ptr<Policy> policy_;
    PolicyRecord record_;
    std::function<void()> grow_policy_;
    std::unique_ptr<TraceRecorder> observer_;  // null: nothing is recorded
    ExtentTable table_;
    FileWatch watch_;
    Readiness readiness_;
    wire::Heartbeat* heartbeat_;
    Mailbox* mailbox_;
    Worker* evictor_;
    Worker* memory_;
    std::shared_ptr<StateDb> state_;
    GpuArbitrator* leases_;
    LeaseTable lease_table_;
    std::optional<uint64_t> gpus_shown_;  // GpuArbitrator::runs_version() when rows were last marked

    TierTable tiers_;
    std::array<tierd_tier_info, TIERD_MAX_TIERS> tier_infos_{};  // what policies see of tiers_
    size_t tiers_shown_ = 1;                                     // of these, up to the greatest number in use
    uint8_t system_tier_;                                        // whose capacity is the budget
    MemoryEvents memory_events_;
    std::unique_ptr<Migrator> migrator_;  // from the second tier on
    std::unordered_map<ExtentId, Move> moves_;
    std::unordered_map<ExtentId, uint8_t> scattered_;  // evicting, and where else some of their pages are
    std::deque<ProposedMove> deferred_moves_;          // the second half of exchanges, until there is room
    ExtentId next_placement_ = 0;                      // to be checked
    ExtentId next_nearer_ = 0;                         // to be looked at for a nearer tier
    uint32_t suspect_rows_ = 0;                        // to be checked soon, since there were news of memory
    uint64_t migrate_bytes_per_s_;
    EngineCounters counters_;
    FaultProfile profile_;
    std::vector<std::string> notes_;
    uint64_t started_ns_;
    uint64_t next_epoch_ns_;

    std::map<uint64_t, std::unique_ptr<Client>> clients_;
    std::map<uint64_t, std::shared_ptr<WeightFile>> files_;  // by number
    std::vector<std::shared_ptr<WeightFile>> slots_;         // by the policy's number
    uint64_t next_client_ = 1;
    uint64_t next_file_ = 1;

    std::unordered_map<ExtentId, std::vector<Waiter>> waiters_;
    std::unordered_map<ExtentId, Fill> fills_;  // under way
    std::deque<ExtentId> demand_;
    std::deque<ExtentId> ahead_;
    std::deque<ExtentId> guesses_;    // read ahead when nothing surer is to be read
    std::deque<ExtentId> will_need_;  // advised by clients; only ever fills memory that is free
    bool may_read_more_ = false;      // ahead, in the next round
    std::deque<ExtentId> unmapped_;   // filled, and to be mapped though nobody waits
    std::deque<MapAhead> map_ahead_;
    std::deque<HugeWish> huge_wishes_;
    bool huge_under_way_ = false;
    std::map<uint64_t, Job> jobs_;
    uint64_t next_job_ = 1;
    FallBackCounts fall_backs_{};
    SlowFault slowest_;
    uint32_t reads_in_flight_ = 0;
    uint64_t last_read_ns_ = 0;  // the start of the last one; that of a header counts
    uint32_t remote_reads_ = 0;  // of these, from file systems that may hang
    std::deque<ExtentId> held_;  // wanted of such files, until another of their reads has ended
    uint64_t evicting_bytes_ = 0;
    uint64_t pinned_bytes_ = 0;
    uint64_t attached_bytes_ = 0;  // sizes of all weight files that have clients
    PolicyDecisions decisions_;    // reused, so that a fault allocates nothing

    HeatLedger heat_;
    HintChooser hint_chooser_;
    HintBudget hint_budget_;
    bool hints_on_;
    std::minstd_rand random_;   // which page of an extent
    std::vector<bool> huge_;    // extents that are one huge page for certain
    uint64_t hints_sent_ = 0;   // in this epoch
    uint64_t round_hints_ = 0;  // of this round's faults, those that hints brought
    uint64_t round_faults_ = 0;
    uint64_t round_cpu_ns_ = 0;  // of this thread, at the end of the last round
    // What hinted touches cost on the evictor's thread, in this epoch.
    struct HintSide {
        std::atomic<uint64_t> cpu_ns{0};
        std::atomic<uint64_t> wait_ns{0};  // of the touching threads, from when this thread heard of it
    };
    std::shared_ptr<HintSide> hint_side_ = std::make_shared<HintSide>();
    RunDelay run_delay_;
    uint64_t woken_late_ns_ = 0;  // by how much this thread hears of a touch later, as of the last epoch
    bool sampling_paused_ = false;
    ThreadNodes thread_nodes_{CpuNodes::read()};
    uint64_t sampled_ns_ = 0;  // the last sample_epoch()
    uint64_t readers_decayed_ns_ = 0;
    Readers readers_;
    std::vector<SourceOffer> offers_;
    AddressBook book_;  // kept only for the sampler
    std::string source_used_;
    std::unique_ptr<Sampler> sampler_;  // may be null

    bool overslept_ = false;  // this thread stood still for so long that clients have left by themselves
    bool stopping_ = false;
    uint64_t stop_deadline_ns_ = 0;
};

}  // namespace tierd
