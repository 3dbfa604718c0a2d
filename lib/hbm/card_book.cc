#include "lib/hbm/card_book.h"

#include <algorithm>
#include <utility>

namespace tierd {

namespace {

constexpr uint64_t kMostSlicesPassedOver = 8;

}  // namespace

bool CardBook::want(uint64_t number, uint64_t need_bytes, uint64_t want_bytes, uint64_t now_ns) {
    auto found = leases_.find(number);
    if (found == leases_.end() || need_bytes > want_bytes) return false;
    CardLease& lease = found->second;
    if (lease.want_bytes == 0) lease.waiting_since_ns = now_ns;
    lease.need_bytes = need_bytes;
    lease.want_bytes = want_bytes;
    return true;
}

bool CardBook::holds(uint64_t number, uint64_t lease_bytes, uint64_t pinned_bytes) {
    auto found = leases_.find(number);
    if (found == leases_.end() || lease_bytes > found->second.lease_bytes || pinned_bytes > lease_bytes)
        return false;
    found->second.lease_bytes = lease_bytes;
    found->second.pinned_bytes = pinned_bytes;
    found->second.asked_bytes.reset();
    return true;
}

uint64_t CardBook::leased_bytes() const {
    uint64_t sum = 0;
    for (auto& [number, lease] : leases_) sum += lease.lease_bytes;
    return sum;
}

uint64_t CardBook::pinned_by_others(uint64_t number) const {
    uint64_t pinned = 0;
    for (auto& [other, lease] : leases_)
        if (other != number) pinned += lease.pinned_bytes;
    return pinned;
}

uint64_t CardBook::most_for(uint64_t number) const {
    return capacity_bytes_ - std::min(pinned_by_others(number), capacity_bytes_);
}

uint64_t CardBook::utmost_for(uint64_t number) const {
    return total_bytes_ - std::min(pinned_by_others(number), total_bytes_);
}

CardWord CardBook::word_for(uint64_t number, uint32_t position) const {
    return {.lease = number,
            .lease_bytes = leases_.at(number).lease_bytes,
            .most_bytes = most_for(number),
            .utmost_bytes = utmost_for(number),
            .position = position};
}

bool CardBook::rank(uint64_t number, uint64_t worth) {
    auto found = leases_.find(number);
    return found != leases_.end() && std::exchange(found->second.worth, worth) != worth;
}

std::vector<uint64_t> CardBook::queue(uint64_t now_ns) const {
    std::vector<uint64_t> waiting;
    for (auto& [number, lease] : leases_)
        if (lease.want_bytes > 0) waiting.push_back(number);
    std::ranges::stable_sort(waiting, [&](uint64_t a, uint64_t b) {
        const CardLease &left = leases_.at(a), &right = leases_.at(b);
        auto is_overdue = [&](const CardLease& lease) {
            return now_ns > lease.waiting_since_ns + kMostSlicesPassedOver * slice_ns_;
        };
        bool left_overdue = is_overdue(left), right_overdue = is_overdue(right);
        if (left_overdue != right_overdue) return left_overdue;
        if (!left_overdue && left.worth != right.worth) return left.worth > right.worth;
        return left.waiting_since_ns < right.waiting_since_ns;
    });
    return waiting;
}

uint32_t CardBook::position_of(uint64_t number, uint64_t now_ns) const {
    auto waiting = queue(now_ns);
    auto found = std::ranges::find(waiting, number);
    return found == waiting.end() ? 0 : static_cast<uint32_t>(found - waiting.begin()) + 1;
}

std::vector<CardWord> CardBook::settle(uint64_t now_ns) {
    std::vector<CardWord> words;
    const std::vector<uint64_t> waiting = queue(now_ns);
    for (uint64_t number : waiting) {
        CardLease& lease = leases_.at(number);
        // What it was asked for is on its way: to grant now would cross that answer.
        if (lease.asked_bytes) break;
        uint64_t goal = std::max({std::min(lease.want_bytes, most_for(number)),
                                  std::min(lease.need_bytes, utmost_for(number)), lease.lease_bytes});
        uint64_t others = leased_bytes() - lease.lease_bytes;
        uint64_t room = std::max(capacity_bytes_, goal + pinned_by_others(number));
        if (goal + others > room) {
            ask_back(goal + others - room, number, waiting, now_ns, words);
            break;
        }
        if (goal + others > capacity_bytes_) lease.overdrafts++;
        lease.lease_bytes = goal;
        lease.want_bytes = lease.need_bytes = 0;
        lease.granted_ns = now_ns;
        lease.told_position = 0;
        lease.told_most_bytes = most_for(number);
        words.push_back(word_for(number, 0));
    }
    tell_places(now_ns, words);
    return words;
}

// Orders for `bytes` in all, those counted that were sent and not answered yet.
void CardBook::ask_back(uint64_t bytes, uint64_t for_number, std::span<const uint64_t> queue, uint64_t now_ns,
                        std::vector<CardWord>& words) {
    std::vector<uint64_t> others;
    for (auto& [number, lease] : leases_) {
        if (number == for_number) continue;
        uint64_t coming = lease.asked_bytes ? lease.lease_bytes - *lease.asked_bytes : 0;
        bytes -= std::min(bytes, coming);
        if (!lease.asked_bytes && lease.lease_bytes > lease.pinned_bytes) others.push_back(number);
    }
    // Who waits uses nothing; of those, the last in the queue has the longest to go.
    std::map<uint64_t, size_t> places;
    for (uint64_t number : queue) places[number] = places.size();
    std::ranges::stable_sort(others, [&](uint64_t a, uint64_t b) {
        const CardLease &left = leases_.at(a), &right = leases_.at(b);
        bool left_waits = left.want_bytes > 0, right_waits = right.want_bytes > 0;
        if (left_waits != right_waits) return left_waits;
        if (left_waits) return places.at(a) > places.at(b);
        if (left.worth != right.worth) return left.worth < right.worth;
        return left.granted_ns < right.granted_ns;
    });
    for (uint64_t number : others) {
        if (bytes == 0) return;
        CardLease& lease = leases_.at(number);
        uint64_t part = std::min(bytes, lease.lease_bytes - lease.pinned_bytes);
        bool waits = lease.want_bytes > 0;
        lease.asked_bytes = lease.lease_bytes - part;
        words.push_back({.lease = number,
                         .reclaim = true,
                         .lease_bytes = *lease.asked_bytes,
                         .not_before_ns = waits ? now_ns : lease.granted_ns + slice_ns_});
        bytes -= part;
    }
}

// Those whose place in the queue, or whose most, has changed since they last heard of it.
void CardBook::tell_places(uint64_t now_ns, std::vector<CardWord>& words) {
    uint32_t position = 0;
    for (uint64_t number : queue(now_ns)) {
        CardLease& lease = leases_.at(number);
        uint64_t most = most_for(number);
        if (lease.told_position == ++position && lease.told_most_bytes == most) continue;
        lease.told_position = position;
        lease.told_most_bytes = most;
        words.push_back(word_for(number, position));
    }
}

}  // namespace tierd
