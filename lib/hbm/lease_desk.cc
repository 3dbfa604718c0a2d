#include "lib/hbm/lease_desk.h"

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
#include "lib/hbm/card_book.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

constexpr size_t kMaxLeases = 4096;
constexpr size_t kMaxCards = 64;
constexpr size_t kMaxRuns = 8192;          // that one process may show
constexpr size_t kMaxRunsInAll = 65536;    // that all may
constexpr uint64_t kStepBytes = 64 << 10;  // of leases

struct Run {
    uint64_t file = 0;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
};

std::string name_of(const CardId& id) {
    return fmt::format("hbm-{:02x}{:02x}{:02x}{:02x}", id[0], id[1], id[2], id[3]);
}

struct Channel {
    Fd socket;
    LeaseHolder holder;
    CardId card{};
    uint32_t heard = 0;  // sequence of its last message
    std::vector<Run> shown = {};
};

class ThreadedDesk final : public LeaseDesk {
  public:
    ThreadedDesk(const HbmConfig& config, Fd event) : config_(config), event_(std::move(event)) {
        thread_ = std::thread([this] {
            name_this_thread("tierd-leases");
            run();
        });
    }
    ~ThreadedDesk() override {
        {
            std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        ring();
        thread_.join();
    }

    void adopt(Fd channel, LeaseHolder holder, const LeaseRequest& request) override {
        std::lock_guard lock(mutex_);
        auto card = cards_.find(request.card);
        bool full = channels_.size() >= kMaxLeases || (card == cards_.end() && cards_.size() >= kMaxCards);
        if (full || request.total_bytes < kStepBytes) return refuse(channel, -EBUSY);
        if (card == cards_.end())
            card = cards_
                       .emplace(request.card,
                                CardBook(capacity_of(request.total_bytes), request.total_bytes, slice_ns()))
                       .first;
        uint64_t number = next_number_++;
        Channel& made = channels_[number] = {std::move(channel), std::move(holder), request.card};
        card->second.open(number);
        say(made, card->second.word_for(number, 0));
        ring();
    }

    std::vector<CardStatus> cards() const override {
        std::lock_guard lock(mutex_);
        std::vector<CardStatus> list;
        for (auto& [id, book] : cards_) {
            CardStatus card{.name = name_of(id),
                            .capacity_bytes = book.capacity_bytes(),
                            .leased_bytes = book.leased_bytes(),
                            .leases = {}};
            std::map<uint64_t, uint32_t> positions;
            for (uint64_t number : book.queue(monotonic_ns()))
                positions[number] = static_cast<uint32_t>(positions.size()) + 1;
            for (auto& [number, lease] : book.leases())
                card.leases.push_back({.number = number,
                                       .holder = channels_.at(number).holder,
                                       .lease_bytes = lease.lease_bytes,
                                       .pinned_bytes = lease.pinned_bytes,
                                       .want_bytes = lease.want_bytes,
                                       .position = positions.contains(number) ? positions.at(number) : 0,
                                       .waiting_since_ns = lease.waiting_since_ns,
                                       .granted_ns = lease.granted_ns});
            list.push_back(std::move(card));
        }
        return list;
    }

    // The new order takes hold now: somebody who waits may come first by it.
    void rank(const std::map<uint64_t, uint64_t>& worth) override {
        std::lock_guard lock(mutex_);
        bool changed = false;
        for (auto& [number, channel] : channels_) {
            auto found = worth.find(number);
            changed |= cards_.at(channel.card).rank(number, found == worth.end() ? 0 : found->second);
        }
        if (changed) ring();
    }

    uint64_t shown() const override { return shown_.load(std::memory_order_relaxed); }

    std::vector<CardRun> runs_of(uint64_t file) const override {
        std::lock_guard lock(mutex_);
        std::vector<CardRun> runs;
        for (auto& [number, channel] : channels_)
            for (const Run& run : channel.shown)
                if (run.file == file)
                    runs.push_back({name_of(channel.card), run.offset_bytes, run.length_bytes});
        return runs;
    }

  private:
    uint64_t slice_ns() const { return config_.slice_ms * kNsPerMs; }
    uint64_t capacity_of(uint64_t total_bytes) const {
        uint64_t bytes =
            config_.bytes != 0 ? std::min(config_.bytes, total_bytes) : total_bytes / 100 * config_.percent;
        return bytes / kStepBytes * kStepBytes;
    }
    void ring() const {
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
                if (wait[i].revents != 0 && !hear(numbers[i])) end(numbers[i]);
            settle_all();
        }
    }

    // One message. False ends the lease.
    bool hear(uint64_t number) {
        Channel& channel = channels_.at(number);
        CardBook& book = cards_.at(channel.card);
        auto packet = receive_packet(channel.socket.get());
        if (!packet) return packet.error().code == Code::busy;
        channel.heard = packet->header().sequence;
        if (packet->header().kind == wire::Kind::lease_ask)
            return say(channel, book.word_for(number, book.position_of(number, monotonic_ns())));
        if (packet->header().kind == wire::Kind::lease_shows) return show(channel, *packet);
        if (packet->header().kind == wire::Kind::lease_want) {
            auto want = packet->as<wire::LeaseWant>();
            return want && book.want(number, want->need_bytes, want->want_bytes, monotonic_ns());
        }
        auto holds = packet->as<wire::LeaseHolds>();
        return packet->header().kind == wire::Kind::lease_holds && holds &&
               book.holds(number, holds->lease_bytes, holds->pinned_bytes);
    }

    bool show(Channel& channel, const Packet& packet) {
        auto shows = packet.as<wire::LeaseShows>();
        if (!shows || shows->count > std::size(shows->runs)) return false;
        shown_.fetch_add(1, std::memory_order_relaxed);
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
        cards_.at(channel.card).close(number);
        shown_.fetch_add(1, std::memory_order_relaxed);
        channels_.erase(number);
    }

    // Telling one process may end its lease, which may let another go on.
    void settle_all() {
        for (auto& [id, book] : cards_) {
            for (bool again = true; again;) {
                again = false;
                for (const CardWord& word : book.settle(monotonic_ns())) {
                    auto found = channels_.find(word.lease);
                    if (found == channels_.end() || say(found->second, word)) continue;
                    end(word.lease);
                    again = true;
                }
            }
        }
    }

    bool say(Channel& channel, const CardWord& word) {
        if (word.reclaim) {
            auto order = make_message<wire::LeaseReclaim>(wire::Kind::lease_reclaim, channel.heard);
            order.lease_bytes = word.lease_bytes;
            order.not_before_ns = word.not_before_ns;
            return send_message(channel.socket.get(), order).has_value();
        }
        auto grant = make_message<wire::LeaseGrant>(wire::Kind::lease_grant, channel.heard);
        grant.position = word.position;
        grant.lease_bytes = word.lease_bytes;
        grant.most_bytes = word.most_bytes;
        grant.utmost_bytes = word.utmost_bytes;
        grant.others_bytes = cards_.at(channel.card).leased_bytes() - word.lease_bytes;
        return send_message(channel.socket.get(), grant).has_value();
    }

    const HbmConfig config_;
    Fd event_;
    std::atomic<uint64_t> shown_ = 0;
    mutable std::mutex mutex_;  // guards all below; never held while waiting
    bool stopping_ = false;
    uint64_t next_number_ = 1;
    std::map<uint64_t, Channel> channels_;
    size_t runs_ = 0;  // of all channels together
    std::map<CardId, CardBook> cards_;
    std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<LeaseDesk>> LeaseDesk::start(const HbmConfig& config) {
    auto event = make_eventfd();
    if (!event) return std::unexpected(event.error());
    return std::make_unique<ThreadedDesk>(config, std::move(*event));
}

}  // namespace tierd
