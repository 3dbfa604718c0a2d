// Real rings of the kernel: the consumer that PEBS and IBS have, driven by events that every machine has.
#define BOOST_TEST_MODULE sample_ring
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "lib/base/clock.h"
#include "lib/sample/attribution.h"
#include "lib/sample/period.h"
#include "tests/unit/perf_events.h"

namespace tierd::test {

BOOST_GLOBAL_FIXTURE(NeedsEvents);

namespace {

constexpr uint64_t kExtent = 64 * kKiB;

std::shared_ptr<const SampledFile> file_of(uint64_t bytes) {
    auto file = std::make_shared<SampledFile>();
    file->name = "model";
    file->layout = ExtentLayout::even(bytes, kExtent);
    return file;
}

std::shared_ptr<const AddressMap> map_of(uint64_t address, uint64_t bytes) {
    MappingHistory book;
    book.add(static_cast<uint32_t>(::getpid()),
             {.address = address, .length_bytes = bytes, .file = file_of(bytes)});
    return book.publish(monotonic_ns());
}

std::unique_ptr<PerfSource> opened(const PerfSourceConfig& config) {
    auto source = PerfSource::open(config);
    BOOST_REQUIRE_MESSAGE(source.has_value(), (source ? "" : source.error().text()));
    return std::move(*source);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_hundred_thousand_faults_arrive_through_many_wraps_each_at_its_extent) {
    constexpr size_t kBytes = 4 * kMiB, kPages = kBytes / 4096;
    constexpr uint64_t kRecords = 100'000;
    Pages pages(kBytes);
    auto map = map_of(pages.address(), kBytes);
    auto source = opened(page_faults(256 * kKiB));
    std::vector<uint64_t> seen(kBytes / kExtent), touched(kBytes / kExtent);
    uint64_t records = 0;
    auto sink = [&](const AccessRecord& record) {
        Place place = map->find(record.pid, record.address, record.time_ns);
        if (place.found != Found::yes) return;
        records++;
        seen[place.extent]++;
        BOOST_REQUIRE(record.tid == static_cast<uint32_t>(::gettid()));
        BOOST_REQUIRE(record.instruction != 0u);
    };
    for (uint64_t done = 0; done < kRecords; done++) {
        size_t page = done * 7 % kPages;
        if (done % kPages == 0) pages.forget();
        (void)*pages.at(page * 4096 + done % 4096);
        touched[page * 4096 / kExtent]++;
        if (done % 500 == 0) source->drain(sink);
    }
    source->drain(sink);
    BOOST_TEST(records == kRecords);
    BOOST_TEST(seen == touched);
    BOOST_TEST(source->counters().lost == 0u);
    BOOST_TEST(source->counters().damaged == 0u);
    BOOST_TEST(source->counters().wrapped > 0u);
}

BOOST_AUTO_TEST_CASE(an_event_that_needs_a_leader_records_behind_it_and_stops_with_it) {
    Pages pages(64 * 4096);
    PerfSourceConfig config = page_faults(64 * kKiB);
    config.leader.emplace();
    config.leader->size = sizeof *config.leader;
    config.leader->type = PERF_TYPE_SOFTWARE;
    config.leader->config = PERF_COUNT_SW_DUMMY;
    config.leader->disabled = 1;
    config.leader->exclude_kernel = 1;
    config.leader->use_clockid = config.attr.use_clockid;
    config.leader->clockid = config.attr.clockid;
    auto source = opened(config);
    auto touch_all = [&] {
        uint64_t records = 0;
        pages.forget();
        for (size_t page = 0; page < 64; page++) (void)*pages.at(page * 4096);
        source->drain([&](const AccessRecord& record) {
            records += record.address >= pages.address() && record.address < pages.address() + 64 * 4096;
        });
        return records;
    };
    BOOST_TEST(touch_all() == 64u);
    source->set_recording(false);
    BOOST_TEST(touch_all() == 0u);
    source->set_recording(true);
    BOOST_TEST(touch_all() == 64u);
    config.leader->type = 12345;  // no such PMU
    BOOST_TEST(!PerfSource::open(config).has_value());
}

BOOST_AUTO_TEST_CASE(a_reader_that_pauses_loses_records_and_the_kernel_says_how_many) {
    constexpr size_t kBytes = 4 * kMiB, kPages = kBytes / 4096;
    Pages pages(kBytes);
    auto source = opened(page_faults(16 * kKiB));
    auto map = map_of(pages.address(), kBytes);
    uint64_t records = 0;
    auto sink = [&](const AccessRecord& record) {
        records += map->find(record.pid, record.address, record.time_ns).found == Found::yes;
    };
    for (size_t page = 0; page < kPages; page++)
        (void)*pages.at(page * 4096);  // far more than the ring holds
    source->drain(sink);
    uint64_t before_pause = records;
    BOOST_TEST(before_pause > 0u);
    BOOST_TEST(before_pause < kPages);
    // The kernel tells of the loss before the next record that fits.
    pages.forget();
    for (size_t page = 0; page < 8; page++) (void)*pages.at(page * 4096);
    source->drain(sink);
    BOOST_TEST(records == before_pause + 8);
    BOOST_TEST(source->counters().lost >= kPages - before_pause);
}

BOOST_AUTO_TEST_CASE(hardware_breakpoints_tell_the_addresses_of_chosen_loads) {
    constexpr size_t kBytes = 1 * kMiB;
    Pages pages(kBytes);
    const size_t offsets[] = {0, 5 * kExtent + 512, 15 * kExtent + 8192};
    std::vector<std::unique_ptr<PerfSource>> sources;
    for (size_t offset : offsets) {
        (void)*pages.at(offset);
        auto source = PerfSource::open(breakpoint(const_cast<char*>(pages.at(offset)), 64 * kKiB));
        if (!source) {
            BOOST_TEST_MESSAGE("skipped: " + source.error().text());
            std::fprintf(stderr, "no hardware breakpoints here: %s\n", source.error().text().c_str());
            return;
        }
        sources.push_back(std::move(*source));
    }
    auto map = map_of(pages.address(), kBytes);
    std::vector<uint64_t> seen(kBytes / kExtent);
    uint64_t total = 0;
    for (int round = 0; round < 3000; round++) {
        for (size_t i = 0; i < 3; i++)
            for (size_t times = 0; times <= i; times++) (void)*pages.at(offsets[i]);
        if (round % 100 != 99) continue;
        for (auto& source : sources)
            source->drain([&](const AccessRecord& record) {
                Place place = map->find(record.pid, record.address, record.time_ns);
                BOOST_REQUIRE(place.found == Found::yes);
                seen[place.extent]++;
                total++;
            });
    }
    BOOST_TEST(total == 3000u * 6);
    BOOST_TEST(seen[0] == 3000u);
    BOOST_TEST(seen[5] == 6000u);
    BOOST_TEST(seen[15] == 9000u);
}

BOOST_AUTO_TEST_CASE(another_process_is_sampled_with_the_threads_that_it_starts_later) {
    // The process is a child, which maps pages, starts a thread, and touches from both.
    int go[2], done[2];
    BOOST_REQUIRE(::pipe(go) == 0 && ::pipe(done) == 0);
    constexpr size_t kBytes = 1 * kMiB;
    Pages pages(kBytes);
    pid_t child = ::fork();
    if (child == 0) {
        char byte;
        if (::read(go[0], &byte, 1) != 1) ::_exit(1);
        std::thread([&] {
            for (size_t i = 0; i < 100; i++) (void)*pages.at(i * 4096);
        }).join();
        for (size_t i = 100; i < 200; i++) (void)*pages.at(i * 4096);
        if (::write(done[1], &byte, 1) != 1) ::_exit(1);
        ::pause();
    }
    PerfSourceConfig config = page_faults(256 * kKiB);
    config.this_thread = false;
    config.process = child;
    auto source = opened(config);
    char byte = 1;
    BOOST_REQUIRE(::write(go[1], &byte, 1) == 1);
    BOOST_REQUIRE(::read(done[0], &byte, 1) == 1);
    std::vector<uint32_t> tids;
    uint64_t inside = 0;
    source->drain([&](const AccessRecord& record) {
        if (record.address < pages.address() || record.address >= pages.address() + kBytes) return;
        inside++;
        BOOST_TEST(record.pid == static_cast<uint32_t>(child));
        if (std::ranges::find(tids, record.tid) == tids.end()) tids.push_back(record.tid);
    });
    BOOST_TEST(inside == 200u);
    BOOST_TEST(tids.size() == 2u);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
}

BOOST_AUTO_TEST_CASE(a_longer_period_gives_fewer_records_that_stand_for_more) {
    constexpr size_t kBytes = 4 * kMiB, kPages = kBytes / 4096;
    Pages pages(kBytes);
    PerfSourceConfig config = page_faults(256 * kKiB);
    config.attr.sample_type &= ~uint64_t{PERF_SAMPLE_PERIOD};  // software events that tell it have none
    auto source = opened(config);
    BOOST_REQUIRE(source->set_period(16).has_value());
    pages.forget();
    uint64_t records = 0;
    for (size_t page = 0; page < kPages; page++) (void)*pages.at(page * 4096);
    source->drain([&](const AccessRecord& record) {
        records++;
        BOOST_TEST(record.period == 16u);
    });
    BOOST_TEST(records >= kPages / 16 - 2);
    BOOST_TEST(records <= kPages / 16 + 64);
    BOOST_TEST(source->period() == 16u);
}

BOOST_AUTO_TEST_CASE(what_a_record_costs_is_measured_and_steers_the_period) {
    constexpr size_t kBytes = 2 * kMiB, kPages = kBytes / 4096;
    Pages pages(kBytes);
    auto source = opened(page_faults(256 * kKiB));
    uint64_t records = 0;
    auto work = [&] {
        pages.forget();
        for (size_t page = 0; page < kPages; page++) (void)*pages.at(page * 4096);
    };
    uint64_t cost_ns = measure_record_cost_ns(
        work, [&](bool on) { source->set_recording(on); },
        [&] {
            source->drain([&](const AccessRecord&) { records++; });
            return records;
        });
    BOOST_TEST(cost_ns < 100'000u);  // whatever it is, it was divided by the records
    PeriodControl control(1000, {});
    // A million records a second at 1 µs each are a whole core: a hundred times too much, mended in steps of four.
    uint64_t period = control.step(kNsPerSecond, 1'000'000, 0, 1000);
    BOOST_TEST(period == 4000u);
    BOOST_TEST(control.cost_share() == 1.0, boost::test_tools::tolerance(0.01));
    // What costs a twentieth of what it may is sampled four times as often.
    BOOST_TEST(control.step(kNsPerSecond, 500, 0, 1000) == 1000u);
    BOOST_TEST(control.step(kNsPerSecond, 10'000, 0, 1000) == 1000u);  // just right
    PeriodControl ibs(0x4000, {.multiple_of = 16});
    BOOST_TEST(ibs.step(kNsPerSecond, 30'000, 0, 1000) % 16 == 0u);
}

// --- rings that no kernel would write

namespace {

struct FakeRing {
    explicit FakeRing(size_t bytes) : data(bytes) { std::memset(&page, 0, sizeof page); }
    void put(uint64_t at, uint32_t type, uint16_t size) {
        perf_event_header header{type, 0, size};
        for (size_t i = 0; i < sizeof header; i++)
            data[(at + i) % data.size()] = reinterpret_cast<std::byte*>(&header)[i];
    }
    perf_event_mmap_page page;
    std::vector<std::byte> data;
};

uint64_t visits(FakeRing& ring, PerfRing& reader) {
    uint64_t count = 0;
    reader.drain([&](uint32_t, std::span<const std::byte>) { count++; });
    BOOST_TEST(ring.page.data_tail == ring.page.data_head);
    return count;
}

}  // namespace

BOOST_AUTO_TEST_CASE(records_that_overrun_the_ring_are_dropped_and_what_comes_next_is_read) {
    for (uint16_t size : {0, 7, 12, 4096, 65528}) {
        FakeRing ring(4096);
        PerfRing reader(&ring.page, ring.data);
        ring.put(0, PERF_RECORD_SAMPLE, 16);
        ring.put(16, PERF_RECORD_SAMPLE, size);
        ring.page.data_head = 64;
        BOOST_TEST(visits(ring, reader) == 1u);
        BOOST_TEST(reader.damaged() == 1u);
        ring.put(64, PERF_RECORD_SAMPLE, 24);
        ring.page.data_head = 88;
        BOOST_TEST(visits(ring, reader) == 1u);
    }
    FakeRing ring(4096);
    PerfRing reader(&ring.page, ring.data);
    ring.page.data_head = 1u << 20;  // more than the ring holds
    BOOST_TEST(visits(ring, reader) == 0u);
    BOOST_TEST(reader.damaged() == 1u);
}

BOOST_AUTO_TEST_CASE(a_sample_shorter_than_its_format_is_refused) {
    std::vector<std::byte> body(24);
    AccessRecord record;
    SampleFormat format{.fields = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR};
    BOOST_TEST(!parse_sample(body, format, record));
    body.resize(32);
    BOOST_TEST(parse_sample(body, format, record));
    format.fields |= PERF_SAMPLE_CALLCHAIN;
    body.resize(40);
    std::memset(body.data() + 32, 0xff, 8);  // as many frames as there are numbers
    BOOST_TEST(!parse_sample(body, format, record));
}

// --- opening

BOOST_AUTO_TEST_CASE(without_the_right_opening_says_which_setting_forbids_it) {
    pid_t child = ::fork();
    if (child == 0) {
        // As nobody: what root may is not what others may.
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(3);
        perf_event_attr attr = sampling_attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 1);
        auto refused = open_event(attr, kEveryProcess, 0, "page-faults");
        if (perf_paranoid() < 1) ::_exit(refused ? 0 : 2);
        bool told = !refused && refused.error().code == Code::denied &&
                    refused.error().text().find("perf_event_paranoid") != std::string::npos &&
                    refused.error().text().find("CAP_PERFMON") != std::string::npos;
        ::_exit(told ? 0 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_TEST(WIFEXITED(status));
    if (WEXITSTATUS(status) != 3) BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_CASE(a_process_that_has_gone_and_a_pmu_that_is_missing_are_said_so) {
    PerfSourceConfig config = page_faults(64 * kKiB);
    config.this_thread = false;
    config.process = 4'000'000;
    auto gone = PerfSource::open(config);
    BOOST_REQUIRE(!gone.has_value());
    BOOST_TEST((gone.error().code == Code::gone));
    auto missing = pmu_type("no_such_pmu");
    BOOST_REQUIRE(!missing.has_value());
    BOOST_TEST((missing.error().code == Code::unsupported));
}

}  // namespace tierd::test
