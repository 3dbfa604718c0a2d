#include "lib/policy/policy_runner.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "lib/base/clock.h"
#include "lib/base/worker.h"

namespace tierd {
namespace {

constexpr size_t kMaxWaiting = 512;  // calls; a policy that lags behind this far misses touches
constexpr size_t kMaxPending = 4 * TIERD_MAX_DECISIONS;  // decisions that wait to be carried out

PolicyCall exit_call() {
    PolicyCall call{.hook = Hook::exit};
    call.arguments.now_ns = monotonic_ns();
    return call;
}

class InlineRunner final : public PolicyRunner {
  public:
    explicit InlineRunner(std::shared_ptr<BpfObject> object) : caller_(std::move(object)) {}
    ~InlineRunner() override { caller_.run(exit_call()); }

    bool post(PolicyCall call) override {
        replies_.push_back(caller_.run(std::move(call)));
        return true;
    }
    void take_replies(std::vector<PolicyReply>& out) override {
        std::ranges::move(replies_, std::back_inserter(out));
        replies_.clear();
    }
    PolicyStats stats() const override { return caller_.stats(); }
    std::string exit_reason() const override { return caller_.exit_reason(); }

  private:
    PolicyCaller caller_;
    std::vector<PolicyReply> replies_;
};

// What the thread and the runner share; each may outlive the other.
struct Shared {
    explicit Shared(std::shared_ptr<BpfObject> object) : caller(std::move(object)) {}

    PolicyCaller caller;
    std::mutex mutex;  // guards all below; never held while a program runs
    std::condition_variable wake;
    std::deque<PolicyCall> calls;
    std::vector<PolicyReply> replies;
    size_t pending = 0;  // decisions in `replies`
    std::function<void()> notify;
    bool stopping = false;
};

void deliver(Shared& shared, PolicyReply reply) {
    if (reply.decisions.empty() && reply.delayed.empty() && shared.caller.exit_reason().empty()) return;
    std::lock_guard lock(shared.mutex);
    shared.pending += reply.decisions.size();
    if (shared.pending > kMaxPending) return;  // the engine does not execute them: it is stalled or ending
    bool first = shared.replies.empty();
    shared.replies.push_back(std::move(reply));
    if (first && shared.notify) shared.notify();
}

void serve(const std::shared_ptr<Shared>& shared) {
    name_this_thread("tierd-policy");
    std::unique_lock lock(shared->mutex);
    while (true) {
        shared->wake.wait(lock, [&] { return shared->stopping || !shared->calls.empty(); });
        if (shared->stopping) break;
        PolicyCall call = std::move(shared->calls.front());
        shared->calls.pop_front();
        lock.unlock();
        deliver(*shared, shared->caller.run(std::move(call)));
        lock.lock();
    }
    lock.unlock();
    if (shared->caller.exit_reason().empty()) shared->caller.run(exit_call());
}

class ThreadRunner final : public PolicyRunner {
  public:
    ThreadRunner(std::shared_ptr<BpfObject> object, std::function<void()> notify)
        : shared_(std::make_shared<Shared>(std::move(object))) {
        shared_->notify = std::move(notify);
        // Detached: its program may run for any time, and no thread waits for it.
        std::thread([shared = shared_] { serve(shared); }).detach();
    }
    ~ThreadRunner() override {
        std::lock_guard lock(shared_->mutex);
        shared_->stopping = true;
        shared_->notify = nullptr;
        shared_->wake.notify_one();
    }

    bool post(PolicyCall call) override {
        {
            std::lock_guard lock(shared_->mutex);
            if (!is_full(call.hook)) {
                shared_->calls.push_back(std::move(call));
                shared_->wake.notify_one();
                return true;
            }
        }
        shared_->caller.count_dropped_call();
        return false;
    }
    void take_replies(std::vector<PolicyReply>& out) override {
        std::lock_guard lock(shared_->mutex);
        std::ranges::move(shared_->replies, std::back_inserter(out));
        shared_->replies.clear();
        shared_->pending = 0;
    }
    PolicyStats stats() const override { return shared_->caller.stats(); }
    std::string exit_reason() const override { return shared_->caller.exit_reason(); }

  private:
    // Touches are many and each matters little, so they can be dropped. A queued call for an epoch covers the next
    // epoch too. Calls about models and tiers are never dropped.
    bool is_full(Hook hook) const {
        if (hook == Hook::epoch || hook == Hook::contend)
            return std::ranges::any_of(shared_->calls, [hook](auto& call) { return call.hook == hook; });
        return (hook == Hook::fault || hook == Hook::admit) && shared_->calls.size() >= kMaxWaiting;
    }

    std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<PolicyRunner> run_at_once(std::shared_ptr<BpfObject> object) {
    return std::make_unique<InlineRunner>(std::move(object));
}

std::unique_ptr<PolicyRunner> run_on_thread(std::shared_ptr<BpfObject> object, std::function<void()> notify) {
    return std::make_unique<ThreadRunner>(std::move(object), std::move(notify));
}

}  // namespace tierd
