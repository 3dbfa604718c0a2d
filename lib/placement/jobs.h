// jobs.h - long pieces of work that an administrator asked for: preloads and drains.
//
// Owns:      the jobs that run, and the last kJobsKept that have run.
// Invariant: numbers are never reused; a job that finished is not changed again.
// Callers:   the thread that owns the Placement.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "lib/policy/policy.h"
#include "lib/tier/tier_table.h"

namespace tierd {

// A long piece of work: preload, or a drain.
struct JobStatus {
    uint64_t job = 0;
    std::string what;  // "preload gemma.gguf"
    uint64_t done_bytes = 0;
    uint64_t total_bytes = 0;
    bool finished = false;
    std::string error;  // empty: none
};

struct Job {
    JobStatus status;
    std::deque<ExtentId> queue;  // of a preload: what is still to be read
    uint8_t drains = kNoTier;    // the tier that it empties
    bool removes = false;        // and forgets
    ExtentId next = 0;           // of a drain: where its pass over the table goes on
    uint64_t leaving_bytes = 0;  // that this pass sent away
    uint64_t stuck_bytes = 0;    // and those that it could not

    bool is_drain() const { return drains != kNoTier; }
};

class Jobs {
  public:
    static constexpr size_t kJobsKept = 64;

    // Gives the job its number.
    JobStatus add(Job job) {
        job.status.job = next_++;
        JobStatus status = job.status;
        jobs_[status.job] = std::move(job);
        auto old = jobs_.begin();
        while (old->second.is_drain() && !old->second.status.finished && old->first != status.job) ++old;
        if (jobs_.size() > kJobsKept) jobs_.erase(old);
        return status;
    }
    Job* find(uint64_t number) {
        auto found = jobs_.find(number);
        return found == jobs_.end() ? nullptr : &found->second;
    }
    // The job that empties the tier now, or null.
    Job* drain_of(uint8_t tier) {
        for (auto& [number, job] : jobs_)
            if (job.drains == tier && !job.status.finished) return &job;
        return nullptr;
    }
    std::map<uint64_t, Job>& all() { return jobs_; }

  private:
    std::map<uint64_t, Job> jobs_;
    uint64_t next_ = 1;
};

}  // namespace tierd
