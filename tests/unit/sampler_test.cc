// The sampler's thread, fed by a real ring of the kernel.
#define BOOST_TEST_MODULE sampler
#include <unistd.h>

#include <condition_variable>

#include "lib/base/clock.h"
#include "lib/engine/sampler.h"
#include "tests/unit/perf_events.h"

namespace tierd::test {

BOOST_GLOBAL_FIXTURE(NeedsEvents);

namespace {

constexpr uint64_t kExtent = 64 * kKiB;

// Adds up what a sampler delivers.
class Totals {
  public:
    void add(const SampleBatch& batch) {
        std::lock_guard lock(mutex_);
        for (auto& extent : batch.extents) {
            seen_[extent.index] += extent.accesses;
            total_ += extent.accesses;
        }
        for (auto& reader : batch.readers)
            threads_ += reader.tid == static_cast<uint32_t>(::gettid()) ? 0 : 1;
        changed_.notify_all();
    }
    void wait_for(double total) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return total_ >= total; });
    }
    double of(uint32_t extent) {
        std::lock_guard lock(mutex_);
        return seen_[extent];
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<uint32_t, double> seen_;
    double total_ = 0;
    uint64_t threads_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(samples_are_delivered_by_extent_once_a_map_is_young_enough) {
    Pages pages(16 * kExtent);
    auto file = std::make_shared<SampledFile>();
    file->number = 7;
    file->name = "model";
    file->layout = ExtentLayout::even(16 * kExtent, kExtent);
    MappingHistory book;
    book.add(static_cast<uint32_t>(::getpid()),
             {.address = pages.address(), .length_bytes = 16 * kExtent, .file = file});
    PerfSourceConfig config = page_faults(64 * kKiB);
    config.attr.sample_type &= ~uint64_t{PERF_SAMPLE_PERIOD};
    auto source = PerfSource::open(config);
    BOOST_REQUIRE(source.has_value());
    Totals totals;
    // So cheap that the period never changes.
    SamplerConfig sampling{.limits = {.least = 1, .most = 1}, .record_cost_ns = 1, .round_ms = 1};
    Sampler sampler(std::move(*source), sampling, [&](SampleBatch batch) { totals.add(batch); });
    sampler.see(book.publish(monotonic_ns()));
    for (uint32_t round = 0; round < 50; round++) {
        pages.forget();
        for (uint32_t extent = 0; extent < 16; extent++)
            if (round % (extent + 1) == 0) (void)*pages.at(extent * kExtent + round % 16 * 4096);
    }
    sampler.see(book.publish(monotonic_ns()));  // older records are attributed now
    double expected = 0;
    for (uint32_t extent = 0; extent < 16; extent++) expected += (49 / (extent + 1)) + 1;
    totals.wait_for(expected);
    for (uint32_t extent = 0; extent < 16; extent++) BOOST_TEST(totals.of(extent) == 49 / (extent + 1) + 1);
    BOOST_TEST(sampler.status().stale == 0u);
}

BOOST_AUTO_TEST_CASE(samples_of_a_session_that_has_ended_are_counted_and_dropped) {
    Pages pages(kExtent);
    auto file = std::make_shared<SampledFile>();
    file->layout = ExtentLayout::even(kExtent, kExtent);
    MappingHistory book;
    auto pid = static_cast<uint32_t>(::getpid());
    book.add(pid, {.address = pages.address(), .length_bytes = kExtent, .file = file});
    book.end_process(pid, monotonic_ns());
    auto source = PerfSource::open(page_faults(64 * kKiB));
    BOOST_REQUIRE(source.has_value());
    Sampler sampler(std::move(*source), {.limits = {}, .record_cost_ns = 1, .round_ms = 1},
                    [](const SampleBatch& batch) { BOOST_TEST(batch.extents.empty()); });
    sampler.see(book.publish(monotonic_ns()));  // without a map there is nobody whose accesses count
    for (int round = 0; round < 10; round++) {
        pages.forget();
        (void)*pages.at(0);
    }
    uint64_t limit_ns = monotonic_ns() + 60 * kNsPerSecond;
    while (sampler.status().stale < 10 && monotonic_ns() < limit_ns)
        sampler.see(book.publish(monotonic_ns()));
    BOOST_TEST(sampler.status().stale >= 10u);
}

}  // namespace tierd::test
