#include "lib/migrate/move.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "lib/base/clock.h"

namespace tierd {

namespace {

constexpr auto kPause = std::chrono::microseconds(500);  // a page is busy while it is read in or pinned

// One request on its way.
class Carriage {
  public:
    Carriage(const MoveRequest& request, const std::atomic<bool>* cancelled)
        : request_(request), cancelled_(cancelled) {
        result_.tag = request.tag;
        result_.bytes = request.range.length_bytes;
        if (auto mapped = map_pages(request.range); !mapped)
            end(MoveOutcome::refused, mapped.error().err);
        else if (look())
            at_first_bytes_ = pages_on(request.to) * page_bytes_;
        if (!done_ && at_first_bytes_ == result_.bytes) end(MoveOutcome::moved);
    }

    bool done() const { return done_; }
    const MoveResult& result() const { return result_; }

    // Pages still to be moved. If it is unknown whether they are one huge page, only the first of those that are all
    // elsewhere: a huge page goes as a whole, and asking for its other parts would be answered with EBUSY.
    std::vector<void*> remaining() const {
        if (!size_known_ && result_.attempts == 0 && pages_on(request_.to) == 0) return {page(0)};
        return pages_where([&](int node) { return !is_one_of(request_.to, node); });
    }
    int target() const { return request_.to.front(); }

    // What the kernel answered to remaining(); `refused` is the errno of the whole call, 0: it went through.
    void after_attempt(std::span<const int> statuses, int refused) {
        result_.attempts++;
        for (int status : statuses)
            if (status < 0) result_.error = -status;
        if (refused != 0) result_.error = refused;
        if (!look()) return;
        if (pages_on(request_.to) == nodes_.size()) return end(MoveOutcome::moved);
        bool hopeless = refused != 0 && refused != EAGAIN && refused != EBUSY;
        if (hopeless || result_.attempts >= kMoveAttempts) give_up(MoveOutcome::refused);
    }
    void check_cancelled() {
        if (cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed))
            give_up(MoveOutcome::cancelled);
    }

  private:
    static bool is_one_of(std::span<const int> nodes, int node) {
        return std::ranges::find(nodes, node) != nodes.end();
    }
    size_t pages_on(std::span<const int> nodes) const {
        return static_cast<size_t>(std::ranges::count_if(nodes_, [&](int n) { return is_one_of(nodes, n); }));
    }
    void* page(size_t i) const { return request_.range.at + i * page_bytes_; }
    template <class Wanted>
    std::vector<void*> pages_where(Wanted wanted) const {
        std::vector<void*> pages;
        for (size_t i = 0; i < nodes_.size(); i++)
            if (wanted(nodes_[i])) pages.push_back(page(i));
        return pages;
    }
    // A move may have split what was a huge page.
    bool look() {
        PageRange range = request_.range;
        auto mapped = mapped_page_bytes(range);
        size_known_ = mapped.has_value();
        page_bytes_ = range.page_bytes = mapped.value_or(range.page_bytes);
        nodes_.resize(range.pages());
        auto found = find_nodes(range, nodes_);
        if (!found) end(MoveOutcome::split, found.error().err);
        return found.has_value();
    }

    // Brings back what has gone over, so that an extent is in one place.
    void give_up(MoveOutcome outcome) {
        auto over = pages_where([&](int node) { return is_one_of(request_.to, node); });
        if (!over.empty() && !request_.from.empty()) {
            std::vector<int> back(over.size(), request_.from.front()), statuses(over.size());
            (void)move_pages_to(over, back, statuses);
            if (!look()) return;
        }
        bool together = pages_on(request_.to) == 0;
        end(together ? outcome : MoveOutcome::split, result_.error);
    }
    void end(MoveOutcome outcome, int error = 0) {
        done_ = true;
        result_.outcome = outcome;
        result_.error = outcome == MoveOutcome::moved ? 0 : error;
        if (outcome == MoveOutcome::moved) result_.moved_bytes = result_.bytes - at_first_bytes_;
    }

    const MoveRequest& request_;
    const std::atomic<bool>* cancelled_;
    uint64_t page_bytes_ = 0;  // by which it is mapped, as of the last look
    bool size_known_ = false;
    std::vector<int> nodes_;       // of each such page, or a negative errno
    uint64_t at_first_bytes_ = 0;  // that were on the target before
    MoveResult result_;
    bool done_ = false;
};

struct Attempt {
    Carriage* carriage = nullptr;
    std::vector<void*> pages;
};

int errno_of(const Result<void>& result) {
    return result ? 0 : result.error().err;
}

void attempt_alone(Attempt& attempt) {
    std::vector<int> nodes(attempt.pages.size(), attempt.carriage->target()), statuses(attempt.pages.size());
    auto moved = move_pages_to(attempt.pages, nodes, statuses);
    attempt.carriage->after_attempt(statuses, errno_of(moved));
}

// All in one call. What refuses the call as a whole may be one target's fault: then each is tried by itself.
void attempt_together(std::vector<Attempt>& attempts) {
    std::vector<void*> pages;
    std::vector<int> nodes;
    for (const Attempt& attempt : attempts) {
        pages.insert(pages.end(), attempt.pages.begin(), attempt.pages.end());
        nodes.insert(nodes.end(), attempt.pages.size(), attempt.carriage->target());
    }
    std::vector<int> statuses(pages.size());
    auto moved = move_pages_to(pages, nodes, statuses);
    if (!moved && attempts.size() > 1) {
        for (Attempt& attempt : attempts) attempt_alone(attempt);
        return;
    }
    std::span<const int> rest(statuses);
    for (Attempt& attempt : attempts) {
        attempt.carriage->after_attempt(rest.first(attempt.pages.size()), errno_of(moved));
        rest = rest.subspan(attempt.pages.size());
    }
}

}  // namespace

std::string move_error_text(int error) {
    switch (error) {
        case ENOMEM:
            return "the node has no free memory for it";
        case EACCES:
            return "other processes have the pages mapped, which only CAP_SYS_NICE may move";
        case EBUSY:
            return "pages are in use: pinned, or being read or written";
        case EAGAIN:
            return "pages stayed busy";
        case ENODEV:
            return "no such node, or it has no memory";
        case ENOENT:
            return "pages are not in memory";
        default:
            return fmt::format("{} ({})", std::strerror(error), error);
    }
}

std::vector<MoveResult> migrate_pages(std::span<const MoveRequest> requests,
                                      std::span<const std::shared_ptr<std::atomic<bool>>> cancelled) {
    uint64_t begun_ns = monotonic_ns();
    std::vector<Carriage> carriages;
    carriages.reserve(requests.size());
    for (size_t i = 0; i < requests.size(); i++)
        carriages.emplace_back(requests[i], i < cancelled.size() ? cancelled[i].get() : nullptr);
    for (uint32_t round = 0;; round++) {
        std::vector<Attempt> attempts;
        for (Carriage& carriage : carriages) {
            if (!carriage.done()) carriage.check_cancelled();
            if (!carriage.done()) attempts.push_back({&carriage, carriage.remaining()});
        }
        if (attempts.empty()) break;
        if (round > 1) std::this_thread::sleep_for(kPause * round);
        attempt_together(attempts);
    }
    std::vector<MoveResult> results;
    for (const Carriage& carriage : carriages) {
        results.push_back(carriage.result());
        results.back().took_ns = monotonic_ns() - begun_ns;
    }
    return results;
}

}  // namespace tierd
