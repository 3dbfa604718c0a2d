#include "lib/sample/spe_stream.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace tierd {

namespace {

constexpr size_t kSampleIdBytes = 24;  // of kSpeSampleFields

template <class T>
T at(std::span<const std::byte> body, size_t offset) {
    T value{};
    std::memcpy(&value, body.data() + offset, sizeof value);
    return value;
}

}  // namespace

SpeStream::SpeStream(perf_event_mmap_page* page, std::span<const std::byte> data,
                     std::span<const std::byte> aux, uint32_t cpu, bool neoverse)
    : page_(page), aux_(aux), cpu_(cpu), neoverse_(neoverse), ring_(page, data), passed_(page->aux_tail) {}

void SpeStream::drain(uint64_t period, const Sink& sink) {
    ring_.drain([&](uint32_t type, std::span<const std::byte> body) { on_record(type, body, period, sink); });
    // Release: the kernel may write there again only when we are done with it.
    std::atomic_ref(page_->aux_tail).store(passed_, std::memory_order_release);
}

void SpeStream::on_record(uint32_t type, std::span<const std::byte> body, uint64_t period, const Sink& sink) {
    if (type == PERF_RECORD_AUX) return on_piece(body, period, sink);
    if (type == PERF_RECORD_THROTTLE) counters_.throttled++;
    if (type == PERF_RECORD_LOST && body.size() >= 16) {
        counters_.lost += at<uint64_t>(body, 8);
        running_.clear();  // a switch may be among them
    }
    // Both of a pair name the thread itself behind them: the one that goes, then the one that comes.
    if (type == PERF_RECORD_SWITCH_CPU_WIDE && body.size() >= 8 + kSampleIdBytes) {
        auto id = body.last(kSampleIdBytes);
        note_running({at<uint64_t>(id, 8), at<uint32_t>(id, 0), at<uint32_t>(id, 4)});
    }
}

void SpeStream::note_running(Running running) {
    if (!running_.empty() && running.since_ns < running_.back().since_ns) return;  // a clock that jumps back
    running_.push_back(running);
    if (running_.size() > kMostSwitches) running_.pop_front();
}

// The kernel has written a piece into the AUX ring: where, how much, and whether some was lost before it.
void SpeStream::on_piece(std::span<const std::byte> body, uint64_t period, const Sink& sink) {
    if (body.size() < 24 + kSampleIdBytes) {
        counters_.damaged++;
        return;
    }
    const auto offset = at<uint64_t>(body, 0), bytes = at<uint64_t>(body, 8), flags = at<uint64_t>(body, 16);
    auto id = body.last(kSampleIdBytes);
    const uint64_t end_ns = at<uint64_t>(id, 8);
    note_running({end_ns, at<uint32_t>(id, 0), at<uint32_t>(id, 4)});
    // Acquire: makes what the head counts visible.
    const uint64_t head = std::atomic_ref(page_->aux_head).load(std::memory_order_acquire);
    bool sound =
        bytes <= aux_.size() && offset <= head && bytes <= head - offset && head - offset <= aux_.size();
    if (!sound) {
        counters_.damaged++;
        decoder_.restart();
        return;
    }
    decode(offset, bytes);
    passed_ = std::max(passed_, offset + bytes);
    uint64_t newest = 0;
    for (const SpeRecord& record : decoded_) newest = std::max(newest, record.timestamp);
    for (const SpeRecord& record : decoded_) pass(record, newest, end_ns, period, sink);
    // Whatever is still to come in this one is cut off, or was never written.
    if ((flags & (PERF_AUX_FLAG_TRUNCATED | PERF_AUX_FLAG_COLLISION)) != 0) {
        counters_.lost++;
        decoder_.restart();
    }
    while (running_.size() > 1 && running_[1].since_ns <= end_ns) running_.pop_front();
}

void SpeStream::decode(uint64_t offset, uint64_t bytes) {
    decoded_.clear();
    auto keep = [this](const SpeRecord& record) { decoded_.push_back(record); };
    const size_t begin = offset & (aux_.size() - 1);
    const size_t first = std::min<size_t>(bytes, aux_.size() - begin);
    decoder_.decode(aux_.subspan(begin, first), keep);
    decoder_.decode(aux_.first(bytes - first), keep);
    counters_.wrapped += bytes > first;
}

// Ticks of the system counter as time, by the kernel's own factors.
uint64_t SpeStream::age_ns(uint64_t ticks) const {
    if (page_->cap_user_time == 0) return 0;
    return static_cast<uint64_t>(static_cast<unsigned __int128>(ticks) * page_->time_mult >>
                                 std::min<uint32_t>(page_->time_shift, 127));
}

const SpeStream::Running* SpeStream::running_at(uint64_t time_ns) const {
    if (running_.empty()) return nullptr;
    auto after = std::upper_bound(running_.begin(), running_.end(), time_ns,
                                  [](uint64_t t, const Running& r) { return t < r.since_ns; });
    // Before the first that is known nobody was switched to: it ran then already.
    return after == running_.begin() ? &running_.front() : &*std::prev(after);
}

void SpeStream::pass(const SpeRecord& from, uint64_t ticks_end, uint64_t end_ns, uint64_t period,
                     const Sink& sink) {
    if (from.address == 0 || (!from.is_load && !from.is_store)) return;
    AccessRecord record;
    const uint64_t age = from.timestamp == 0 ? 0 : age_ns(ticks_end - from.timestamp);
    record.time_ns = end_ns - std::min(age, end_ns);
    const Running* running = running_at(record.time_ns);
    if (running == nullptr || running->pid == 0) {
        without_thread_++;
        return;
    }
    record.instruction = from.instruction;
    record.address = from.address;
    record.physical_address = from.physical_address;
    record.data_source = perf_data_source(from, neoverse_);
    record.period = period;
    record.latency_cycles = from.total_cycles;
    record.pid = running->pid;
    record.tid = running->tid;
    record.cpu = cpu_;
    counters_.records++;
    sink(record);
}

SourceCounters SpeStream::counters() const {
    SourceCounters counters = counters_;
    counters.damaged += decoder_.damaged() + ring_.damaged();
    counters.wrapped += ring_.wrapped();
    return counters;
}

}  // namespace tierd
