// status.h - what the engine tells about itself: plain values, copied out of the engine's thread.
//
// Owns:      nothing; every struct is a snapshot.
// Callers:   any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lib/placement/counters.h"
#include "lib/placement/jobs.h"
#include "lib/placement/trace_recorder.h"
#include "lib/sample/cpu_nodes.h"
#include "lib/tier/disk.h"

namespace tierd {

// A source of access statistics; see lib/sample/sources.h.
struct SourceStatus {
    std::string name;           // pebs, ibs, spe, hint, damon, idle
    std::string record_fields;  // what a record of it holds
    std::string event;
    bool available = false;
    bool used = false;
    std::string unavailable_reason;  // why it is not used; empty: it is
    uint64_t records = 0;
    uint64_t lost = 0;       // dropped by the kernel, for want of room
    uint64_t throttled = 0;  // times that the kernel stopped it for costing too much
    uint64_t damaged = 0;
    uint64_t unattributed = 0;  // about no weights
    uint64_t stale = 0;         // of sessions that had ended
    uint64_t period = 0;        // accesses a record stands for; 0: it has none
    double rate = 0;            // of hint: extents a second that may be hinted now
    double cost_share = 0;      // of one core, lately
    double wait_share =
        0;  // of hint: time that threads waited for it, all added up, of one thread's time, lately
};

struct ExtentHeatStatus {
    uint64_t offset_bytes = 0;  // in the file
    uint64_t bytes = 0;
    int layer = -1;   // -1: none
    int expert = -1;  // -1: none
    std::string role;
    uint32_t tier = 0;  // number of the memory tier; 0: none
    bool resident = false;
    double heat = 0;  // decayed touches
    uint64_t samples = 0;
    int reader_node = kNoNode;      // the memory node whose threads read it most; kNoNode: not known
    std::vector<std::string> gpus;  // whose memory holds bytes of it
};

struct NamedCount {
    std::string name;
    uint64_t count = 0;
};

// How fast extents are moved between memory tiers.
struct MovesStatus {
    uint64_t limit_bytes_per_s = 0;  // 0: none
    uint64_t rate_bytes_per_s = 0;   // of it, as much as readers allow now
    double reader_slowdown = 0;  // by which factor readers waited longer while moves went on; 0: not known
};

struct EngineStatus {
    std::string version;
    uint64_t uptime_ns = 0;
    std::string policy;
    uint64_t budget_bytes = 0;
    uint64_t resident_bytes = 0;       // granted memory: resident, filling and evicting
    uint64_t resident_peak_bytes = 0;  // the most it ever was
    uint64_t pinned_bytes = 0;
    uint64_t models = 0;
    uint64_t sessions = 0;
    std::vector<std::string> notes;  // what this machine can't do, one line each
    EngineCounters counters;
    MovesStatus moves;
    std::vector<NamedCount> fall_backs;  // ranges and sessions sent to the kernel's mapping, by reason
    std::vector<NamedCount> refusals;    // clients and files that were not served, by reason
};

struct ModelStatus {
    uint64_t file = 0;   // number of the weight file, stable while it is known
    std::string name;    // model_name(path): split files of one model share it
    std::string path;    // as the first client called it
    std::string format;  // plain, safetensors, gguf
    std::string architecture;
    std::string backing;  // "shmem thp", "shmem 4k", "hugetlb 2m"
    std::string
        arena;  // "0:31:4711", device and inode of its memory, as maps and recordings of processes show it
    std::string header_error;  // why there is no tensor map; empty: there is one, or the format has none
    uint64_t file_bytes = 0;
    uint64_t extent_bytes = 0;
    uint64_t extents = 0;
    uint64_t resident_extents = 0;
    uint64_t resident_bytes = 0;
    uint64_t pinned_bytes = 0;
    uint64_t sessions = 0;  // that have it mapped
    uint64_t tensors = 0;
    bool order_learned = false;
    bool changed = false;  // the file changed under us: no new fills, sessions are on the kernel's mapping
};

struct SessionStatus {
    uint64_t session = 0;
    pid_t pid = 0;
    uid_t uid = 0;
    std::string command;  // /proc/PID/comm
    uint64_t regions = 0;
    uint64_t mapped_bytes = 0;  // address space over arenas
    uint64_t faults_missing = 0;
    uint64_t faults_minor = 0;
    uint64_t slowest_fault_ns = 0;
    bool user_mode_faults = false;
    uint64_t gpu_lease_bytes = 0;      // of all GPUs
    uint64_t gpu_requested_bytes = 0;  // while it waits for more
    uint32_t gpu_position = 0;         // in a GPU's queue, from 1; 0: it does not wait
};

struct TierStatus {
    uint32_t number = 0;  // by which extents say where they are
    std::string name;     // "dram0"
    std::string kind;     // hbm, dram, cxl, gpu
    uint64_t capacity_bytes = 0;
    uint64_t used_bytes = 0;
    std::vector<int> nodes = {};  // memory nodes; empty: wherever the kernel puts it
    uint64_t latency_ns = 0;      // of a read; 0: unknown, as below
    uint64_t bandwidth_bytes_per_s = 0;
    std::string source = "unknown";  // firmware, measured, declared, unknown
    std::string state = "open";      // open, draining, closed
};

// A disk that weight files are served from: the last tier, from which clean bytes can always be had again.
struct DiskStatus {
    std::string name;         // "nvme0n1"
    std::string kind;         // nvme, virtio, loop, ssd, rotational
    uint64_t size_bytes = 0;  // of the disk
    uint64_t file_bytes = 0;  // of the weight files on it that are known now
    uint64_t latency_ns = 0;  // of a small read alone; 0: not measured
    std::vector<DiskSpeed> reads = {};
    uint64_t measured_ns = 0;  // CLOCK_REALTIME; 0: never
};

// One stage of serving faults; see fault_profile.h.
struct FaultStageStatus {
    std::string stage;
    uint64_t count = 0;
    uint64_t sum_ns = 0;
    uint64_t max_ns = 0;
    std::vector<uint64_t>
        buckets;  // bucket i counts those of less than 2^i µs; the last one all longer ones too
};

// The fault that took longest since the start, and where its time went.
struct SlowFault {
    pid_t pid = 0;  // 0: there was none
    std::string path;
    uint32_t extent = 0;    // of the file
    uint64_t since_ns = 0;  // from tierd's start to the fault's arrival
    uint64_t queue_ns = 0;
    uint64_t read_ns = 0;
    uint64_t check_ns = 0;
    uint64_t map_ns = 0;
    uint64_t whole_ns = 0;
};

// One hook of a loaded policy.
struct HookStatus {
    std::string hook;  // "fault"
    uint64_t calls = 0;
    uint64_t p50_ns = 0;  // of processor time a call
    uint64_t p99_ns = 0;
    uint64_t max_ns = 0;
    uint64_t budget_ns = 0;
    uint64_t over_budget = 0;  // calls
    uint64_t faults = 0;       // calls that could not be run, or returned what they may not
};

struct NamedValue {
    std::string name;
    std::string value;
};

struct PolicyStatus {
    std::string name;      // which decides now
    bool loaded = false;   // it is an eBPF object; false: a built-in one
    std::string built_in;  // answers for hooks that the object lacks, and takes over when it goes
    std::string unusable;  // why no object can be loaded here; empty: one can
    std::string licence;
    uint64_t loaded_for_ns = 0;
    uint64_t rows = 0;      // of the extent table, in use
    uint64_t capacity = 0;  // rows that the object sees
    uint64_t verified_instructions = 0;
    uint64_t map_bytes = 0;  // of its own maps
    std::vector<NamedValue> knobs;
    std::vector<HookStatus> hooks;
    std::vector<NamedCount> accepted;  // decisions by kind, since it decides
    std::vector<NamedCount> refused;   // by reason
    uint64_t calls_dropped = 0;        // not made, because too many waited
    std::vector<std::string> log;      // its last lines
    uint64_t loads = 0;                // since the start of tierd
    uint64_t reloads = 0;              // because the extent table outgrew what it saw
    uint64_t ejections = 0;
    std::string ejected;  // the last one that had to go; empty: none
    std::string ejected_reason;
};

struct TensorStatus {
    std::string name;
    std::string dtype;
    std::string role;
    int layer = -1;   // -1: none
    int expert = -1;  // -1: none
    uint64_t bytes = 0;
    uint64_t resident_bytes = 0;
};

struct LayerStatus {
    int layer = -1;  // -1: what belongs to no layer
    uint64_t bytes = 0;
    uint64_t resident_bytes = 0;
    uint64_t touches = 0;
};

struct ModelDetail {
    ModelStatus model;
    std::vector<LayerStatus> layers;
    std::vector<TensorStatus> tensors;
};

// The extents of one weight file, in the file's order.
struct HeatmapStatus {
    ModelStatus model;
    std::vector<ExtentHeatStatus> extents;
};

}  // namespace tierd
