#include "lib/migrate/migrator.h"

#include "lib/base/clock.h"
#include "lib/base/worker.h"

namespace tierd {

namespace {

// Moves in one call of the kernel's, however small they are: an urgent one must not wait long.
constexpr size_t kBatchMoves = 32;

}  // namespace

Migrator::Migrator(Done done, uint64_t bytes_per_s)
    : done_(std::move(done)), throttle_(bytes_per_s), limit_(bytes_per_s), thread_([this] {
          name_this_thread("tierd-migrate");
          run();
      }) {}

Migrator::~Migrator() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        for (auto& [tag, flag] : flags_) flag->store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
    thread_.join();
}

void Migrator::move(MoveRequest request) {
    {
        std::lock_guard lock(mutex_);
        auto flag = std::make_shared<std::atomic<bool>>(stopping_);
        flags_[request.tag] = flag;
        waiting_[request.priority].push_back({std::move(request), std::move(flag)});
    }
    wake_.notify_all();
}

void Migrator::cancel(uint64_t tag) {
    {
        std::lock_guard lock(mutex_);
        auto found = flags_.find(tag);
        if (found == flags_.end()) return;
        found->second->store(true, std::memory_order_relaxed);
    }
    wake_.notify_all();
}

void Migrator::set_limit(uint64_t bytes_per_s) {
    std::lock_guard lock(mutex_);
    throttle_.set_limit(bytes_per_s);
}

void Migrator::reader_waited(WaitKind kind, uint64_t begun_ns) {
    std::lock_guard lock(mutex_);
    throttle_.reader_waited(kind, begun_ns, monotonic_ns());
}

MigrationThrottle Migrator::throttle() {
    std::lock_guard lock(mutex_);
    return throttle_;
}

void Migrator::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        auto batch = take_batch(lock);
        lock.unlock();
        carry_out(std::move(batch));
        lock.lock();
    }
}

// The next moves that may begin, or those that were cancelled meanwhile. Waits for the limit with the lock released.
std::vector<Migrator::Waiting> Migrator::take_batch(std::unique_lock<std::mutex>& lock) {
    auto first_cancelled = [this] {
        return waiting_.begin()->second.front().cancelled->load(std::memory_order_relaxed);
    };
    while (!stopping_ && !first_cancelled()) {
        uint64_t now = monotonic_ns(), ready = limit_.ready_ns(now);
        throttle_.update(now);
        limit_.set(throttle_.bytes_per_s());
        if (ready <= now) break;
        wake_.wait_for(lock, std::chrono::nanoseconds(ready - now));
    }
    std::vector<Waiting> batch;
    uint64_t bytes = 0;
    while (!waiting_.empty() && batch.size() < kBatchMoves) {
        auto level = waiting_.begin();
        uint64_t next = level->second.front().request.range.length_bytes;
        if (!batch.empty() && bytes + next > throttle_.batch_bytes()) break;
        batch.push_back(std::move(level->second.front()));
        level->second.pop_front();
        if (level->second.empty()) waiting_.erase(level);
        if (!batch.back().cancelled->load(std::memory_order_relaxed))
            bytes += batch.back().request.range.length_bytes;
    }
    limit_.spend(bytes, monotonic_ns());
    return batch;
}

void Migrator::carry_out(std::vector<Waiting> batch) {
    std::vector<MoveRequest> requests;
    std::vector<Flag> flags;
    for (Waiting& one : batch) {
        if (one.cancelled->load(std::memory_order_relaxed) || one.request.to.empty()) {
            simulate_move(one);
            continue;
        }
        requests.push_back(std::move(one.request));
        flags.push_back(one.cancelled);
    }
    if (requests.empty()) return;
    {
        std::lock_guard lock(mutex_);
        throttle_.begin_batch();
    }
    auto results = migrate_pages(requests, flags);
    {
        std::lock_guard lock(mutex_);
        uint64_t now_ns = monotonic_ns(), bytes = 0;
        throttle_.end_batch(now_ns);
        for (const MoveResult& result : results) {
            bytes += result.bytes;
            flags_.erase(result.tag);
        }
        limit_.rest(throttle_.pause_ns(bytes, results.front().took_ns), now_ns);  // they went together
    }
    for (const MoveResult& result : results) done_(result);
}

// A tier without nodes of its own: nothing moves, and it takes the time that its figures say. Also the end of what was
// cancelled before it began.
void Migrator::simulate_move(const Waiting& one) {
    std::unique_lock lock(mutex_);
    auto cancelled = [&] { return one.cancelled->load(std::memory_order_relaxed); };
    wake_.wait_for(lock, std::chrono::nanoseconds(one.request.modelled_ns), cancelled);
    flags_.erase(one.request.tag);
    lock.unlock();
    done_({.tag = one.request.tag,
           .outcome = cancelled() ? MoveOutcome::cancelled : MoveOutcome::moved,
           .bytes = one.request.range.length_bytes,
           .took_ns = one.request.modelled_ns});
}

}  // namespace tierd
