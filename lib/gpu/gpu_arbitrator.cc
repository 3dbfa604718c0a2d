#include "lib/gpu/gpu_arbitrator.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "lib/base/clock.h"
#include "lib/base/worker.h"
#include "lib/gpu/gpu_lease_table.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

constexpr size_t kMaxLeases = 4096;
constexpr size_t kMaxGpus = 64;
constexpr size_t kMaxRuns = 8192;          // that one process may show
constexpr size_t kMaxRunsInAll = 65536;    // that all may
constexpr uint64_t kStepBytes = 64 << 10;  // of leases

struct Run {
    uint64_t file = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
};

std::string name_of(const GpuId& id) {
    return fmt::format("gpu-{:02x}{:02x}{:02x}{:02x}", id[0], id[1], id[2], id[3]);
}

struct Channel {
    Fd socket;
    LeaseHolder holder;
    GpuId gpu{};
    uint32_t last_sequence = 0;  // sequence of its last message
    std::vector<Run> shown = {};
};

class ThreadedArbitrator final : public GpuArbitrator {
  public:
    ThreadedArbitrator(const GpuConfig& config, Fd event) : config_(config), event_(std::move(event)) {
        thread_ = std::thread([this] {
            name_this_thread("tierd-leases");
            run();
        });
    }
    ~ThreadedArbitrator() override {
        {
            std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        wake();
        thread_.join();
    }

    void adopt(Fd channel, LeaseHolder holder, const LeaseRequest& request) override {
        std::lock_guard lock(mutex_);
        auto gpu = gpus_.find(request.gpu);
        bool full = channels_.size() >= kMaxLeases || (gpu == gpus_.end() && gpus_.size() >= kMaxGpus);
        if (full || request.total_bytes < kStepBytes) return refuse(channel, -EBUSY);
        if (gpu == gpus_.end())
            gpu = gpus_
                      .emplace(request.gpu, GpuLeaseTable(capacity_of(request.total_bytes),
                                                          request.total_bytes, slice_ns()))
                      .first;
        uint64_t number = next_number_++;
        Channel& made = channels_[number] = {std::move(channel), std::move(holder), request.gpu};
        gpu->second.open(number);
        send(made, gpu->second.update_for(number, 0));
        wake();
    }

    std::vector<GpuStatus> gpus() const override {
        std::lock_guard lock(mutex_);
        std::vector<GpuStatus> list;
        for (auto& [id, book] : gpus_) {
            GpuStatus gpu{.name = name_of(id),
                          .capacity_bytes = book.capacity_bytes(),
                          .leased_bytes = book.leased_bytes(),
                          .leases = {}};
            std::map<uint64_t, uint32_t> positions;
            for (uint64_t number : book.queue(monotonic_ns()))
                positions[number] = static_cast<uint32_t>(positions.size()) + 1;
            for (auto& [number, lease] : book.leases())
                gpu.leases.push_back({.number = number,
                                      .holder = channels_.at(number).holder,
                                      .lease_bytes = lease.lease_bytes,
                                      .pinned_bytes = lease.pinned_bytes,
                                      .requested_bytes = lease.requested_bytes,
                                      .position = positions.contains(number) ? positions.at(number) : 0,
                                      .waiting_since_ns = lease.waiting_since_ns,
                                      .granted_ns = lease.granted_ns});
            list.push_back(std::move(gpu));
        }
        return list;
    }

    // The new order takes hold now: somebody who waits may come first by it.
    void set_priorities(const std::map<uint64_t, uint64_t>& priority) override {
        std::lock_guard lock(mutex_);
        bool changed = false;
        for (auto& [number, channel] : channels_) {
            auto found = priority.find(number);
            changed |=
                gpus_.at(channel.gpu).set_priority(number, found == priority.end() ? 0 : found->second);
        }
        if (changed) wake();
    }

    uint64_t runs_version() const override { return runs_version_.load(std::memory_order_relaxed); }

    std::vector<GpuRun> runs_of(uint64_t file) const override {
        std::lock_guard lock(mutex_);
        std::vector<GpuRun> runs;
        for (auto& [number, channel] : channels_)
            for (const Run& run : channel.shown)
                if (run.file == file)
                    runs.push_back({name_of(channel.gpu), run.offset_bytes, run.length_bytes});
        return runs;
    }

  private:
    uint64_t slice_ns() const { return config_.slice_ms * kNsPerMs; }
    uint64_t capacity_of(uint64_t total_bytes) const {
        uint64_t bytes =
            config_.bytes != 0 ? std::min(config_.bytes, total_bytes) : total_bytes / 100 * config_.percent;
        return bytes / kStepBytes * kStepBytes;
    }
    void wake() const {
        uint64_t one = 1;
        (void)!::write(event_.get(), &one, sizeof one);
    }
    static void refuse(const Fd& channel, int status) {
        auto grant = make_message<wire::LeaseGrant>(wire::Kind::lease_grant, 0);
        grant.status = status;
        (void)send_message(channel.get(), grant);
    }

    // Waits without the lock: channels_ is changed by adopt() only through new numbers, and here.
    void run() {
        while (true) {
            std::vector<pollfd> wait{{event_.get(), POLLIN, 0}};
            std::vector<uint64_t> numbers{0};
            {
                std::lock_guard lock(mutex_);
                if (stopping_) return;
                for (auto& [number, channel] : channels_) {
                    wait.push_back({channel.socket.get(), POLLIN, 0});
                    numbers.push_back(number);
                }
            }
            if (::poll(wait.data(), wait.size(), -1) < 0) continue;
            uint64_t count = 0;
            if (wait[0].revents != 0) (void)!::read(event_.get(), &count, sizeof count);
            std::lock_guard lock(mutex_);
            for (size_t i = 1; i < wait.size(); i++)
                if (wait[i].revents != 0 && !receive(numbers[i])) end(numbers[i]);
            arbitrate_all();
        }
    }

    // One message. False ends the lease.
    bool receive(uint64_t number) {
        Channel& channel = channels_.at(number);
        GpuLeaseTable& book = gpus_.at(channel.gpu);
        auto packet = receive_packet(channel.socket.get());
        if (!packet) return packet.error().code == Code::busy;
        channel.last_sequence = packet->header().sequence;
        if (packet->header().kind == wire::Kind::lease_query)
            return send(channel, book.update_for(number, book.position_of(number, monotonic_ns())));
        if (packet->header().kind == wire::Kind::lease_residency) return show(channel, *packet);
        if (packet->header().kind == wire::Kind::lease_grow) {
            auto want = packet->as<wire::LeaseGrow>();
            return want && book.want(number, want->required_bytes, want->requested_bytes, monotonic_ns());
        }
        auto holds = packet->as<wire::LeaseShrunk>();
        return packet->header().kind == wire::Kind::lease_shrunk && holds &&
               book.holds(number, holds->lease_bytes, holds->pinned_bytes);
    }

    bool show(Channel& channel, const Packet& packet) {
        auto shows = packet.as<wire::LeaseResidency>();
        if (!shows || shows->count > std::size(shows->runs)) return false;
        runs_version_.fetch_add(1, std::memory_order_relaxed);
        if (shows->begins != 0) forget_runs(channel);
        for (const auto& run : std::span(shows->runs, shows->count)) {
            if (channel.shown.size() >= kMaxRuns || runs_ >= kMaxRunsInAll) break;
            channel.shown.push_back({shows->file, run.offset_bytes, run.length_bytes});
            runs_++;
        }
        return true;
    }

    void forget_runs(Channel& channel) {
        runs_ -= channel.shown.size();
        channel.shown.clear();
    }

    void end(uint64_t number) {
        Channel& channel = channels_.at(number);
        forget_runs(channel);
        spdlog::debug("the lease of pid {} ended", channel.holder.pid);
        gpus_.at(channel.gpu).close(number);
        runs_version_.fetch_add(1, std::memory_order_relaxed);
        channels_.erase(number);
    }

    // Telling one process may end its lease, which may let another go on.
    void arbitrate_all() {
        for (auto& [id, book] : gpus_) {
            for (bool again = true; again;) {
                again = false;
                for (const LeaseUpdate& word : book.arbitrate(monotonic_ns())) {
                    auto found = channels_.find(word.lease);
                    if (found == channels_.end() || send(found->second, word)) continue;
                    end(word.lease);
                    again = true;
                }
            }
        }
    }

    bool send(Channel& channel, const LeaseUpdate& word) {
        if (word.reclaim) {
            auto order = make_message<wire::LeaseReclaim>(wire::Kind::lease_reclaim, channel.last_sequence);
            order.lease_bytes = word.lease_bytes;
            order.not_before_ns = word.not_before_ns;
            return send_message(channel.socket.get(), order).has_value();
        }
        auto grant = make_message<wire::LeaseGrant>(wire::Kind::lease_grant, channel.last_sequence);
        grant.position = word.position;
        grant.lease_bytes = word.lease_bytes;
        grant.limit_bytes = word.limit_bytes;
        grant.overcommit_bytes = word.overcommit_bytes;
        grant.others_bytes = gpus_.at(channel.gpu).leased_bytes() - word.lease_bytes;
        return send_message(channel.socket.get(), grant).has_value();
    }

    const GpuConfig config_;
    Fd event_;
    std::atomic<uint64_t> runs_version_ = 0;
    mutable std::mutex mutex_;  // guards all below; never held while waiting
    bool stopping_ = false;
    uint64_t next_number_ = 1;
    std::map<uint64_t, Channel> channels_;
    size_t runs_ = 0;  // of all channels together
    std::map<GpuId, GpuLeaseTable> gpus_;
    std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<GpuArbitrator>> GpuArbitrator::start(const GpuConfig& config) {
    auto event = make_eventfd();
    if (!event) return std::unexpected(event.error());
    return std::make_unique<ThreadedArbitrator>(config, std::move(*event));
}

}  // namespace tierd
