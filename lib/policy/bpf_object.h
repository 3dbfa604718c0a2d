// bpf_object.h - one loaded policy: its programs, its contexts and its answers. The daemon and `tierctl policy` share
// it.
//
// Owns:      the programs, the contexts, the answer and the policy's own maps; all are freed with the object. It
//            keeps a reference to the tables that its programs read.
// Invariant: a loaded object can write its contexts, its answer and its own maps and nothing else. The verifier first
//            checks it against read-only twins of the tables, then loads it with the real ones.
// Callers:   load() any thread. run() one thread at a time; that thread waits until the program ends, and nothing can
//            end it sooner. Another thread may read ctxs() meanwhile: their values are advice.
// Fails:     load(): bad_input with the verifier's message at its source line; denied, unsupported as bpf_tables.h.
//            run(): in its outcome.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bpf/tierd_policy.h"
#include "lib/policy/bpf_elf.h"
#include "lib/policy/bpf_tables.h"

struct bpf_object;  // libbpf's

namespace tierd {

// An object's bytes, and what to call it: "fifo" for /usr/lib/tierd/policies/fifo.bpf.o.
struct ObjectFile {
    std::string name;
    std::string bytes;
};
Result<ObjectFile> read_object(const std::string& path);

// A constant of the policy that its administrator may set.
struct Knob {
    std::string name;
    std::string value;  // a number in C's spelling, or text for a char array
};

// What is known of an object without loading it, and so without any right.
struct ObjectDescription {
    ObjectSummary summary;
    std::vector<Knob> knobs;  // with the values of its author
};
Result<ObjectDescription> describe_object(const ObjectFile& file);

struct PolicyAnswer {
    std::vector<tierd_decision> decisions;  // greatest priority first
    uint32_t dropped = 0;                   // proposed beyond what an answer holds
    std::vector<std::string> log;           // printable
};

struct CallOutcome {
    int failure = 0;      // a negative errno: the program did not run
    int32_t verdict = 0;  // what it returned
    uint64_t cpu_ns = 0;  // of this thread, for the call
};

class BpfObject {
  public:
    // Checks, verifies and loads. `knobs` that the object does not have are refused. `log`, when not null, gets the
    // verifier's whole words where it refused.
    static Result<std::shared_ptr<BpfObject>> load(const ObjectFile& file, std::span<const Knob> knobs,
                                                   std::shared_ptr<BpfTables> tables,
                                                   std::string* log = nullptr);
    ~BpfObject();
    BpfObject(const BpfObject&) = delete;
    BpfObject& operator=(const BpfObject&) = delete;

    const std::string& name() const { return name_; }
    const ObjectSummary& summary() const { return summary_; }
    bool has(Hook hook) const { return programs_[static_cast<size_t>(hook)] >= 0; }

    // Runs the hook's program, which the object must have. `answer` is cleared and filled.
    CallOutcome run(Hook hook, const tierd_call& call, PolicyAnswer& answer);

    BpfTables& tables() const { return *tables_; }
    const std::shared_ptr<BpfTables>& shared_tables() const { return tables_; }
    std::span<tierd_extent_ctx> ctxs() {
        return {reinterpret_cast<tierd_extent_ctx*>(ctxs_.data()), tables_->capacity()};
    }
    std::span<tierd_lease_ctx> lease_contexts() {
        return {reinterpret_cast<tierd_lease_ctx*>(lease_ctxs_.data()), TIERD_MAX_LEASES};
    }
    const std::vector<Knob>& knobs() const { return knobs_; }  // all of them, as they are set
    uint64_t own_map_bytes() const { return own_map_bytes_; }
    uint64_t verified_insns() const { return verified_insns_; }  // of the costliest program

  private:
    BpfObject() = default;
    void find_programs();
    void take_answer(PolicyAnswer& answer) const;
    tierd_answer& raw_answer() const { return *reinterpret_cast<tierd_answer*>(answers_.data()); }

    struct Close {
        void operator()(::bpf_object* object) const;
    };
    std::string name_;
    ObjectSummary summary_;
    std::shared_ptr<BpfTables> tables_;
    std::unique_ptr<::bpf_object, Close> object_;
    int programs_[kHooks] = {-1, -1, -1, -1, -1, -1, -1, -1, -1};  // descriptors that object_ owns
    Mapping ctxs_, lease_ctxs_, answers_;
    std::vector<Knob> knobs_;
    uint64_t own_map_bytes_ = 0;
    uint64_t verified_insns_ = 0;
};

}  // namespace tierd
