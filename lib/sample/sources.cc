#include "lib/sample/sources.h"

#include <fmt/format.h>
#include <unistd.h>

#include "lib/sample/perf_event.h"
#include "lib/sample/period.h"
#include "lib/sample/pmu_events.h"
#include "lib/sample/spe_source.h"
#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

constexpr uint64_t kFirstPeriod = 20'011;     // a prime: loops with a period of their own are not met in step
constexpr uint64_t kFirstIbsPeriod = 0x4000;  // micro-ops; a multiple of 16

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

// What the kernel may refuse is left out, the least useful first: physical addresses are for the privileged, and Linux before
// 5.12 has one weight in the place of three latencies.
Result<void> try_open(PerfSourceConfig& config) {
    const uint64_t wanted = config.attr.sample_type | PERF_SAMPLE_DATA_SRC;
    Result<void> refused;
    for (uint64_t fields :
         {kSampleWeightStruct | PERF_SAMPLE_PHYS_ADDR, kSampleWeightStruct,
          uint64_t{PERF_SAMPLE_WEIGHT | PERF_SAMPLE_PHYS_ADDR}, uint64_t{PERF_SAMPLE_WEIGHT}}) {
        config.attr.sample_type = wanted | fields;
        auto leader =
            config.leader ? open_event(*config.leader, kEveryProcess, 0, config.name) : Result<Fd>(Fd());
        if (!leader) return std::unexpected(leader.error());
        auto opened = open_event(config.attr, kEveryProcess, 0, config.name, leader->get());
        if (opened) return {};
        if (refused) refused = std::unexpected(opened.error());
    }
    return refused;
}

// On Sapphire Rapids and later the kernel takes loads by latency only behind an event that it names mem-loads-aux.
std::optional<perf_event_attr> leader_of(PmuUse use, const perf_event_attr& attr) {
    auto code = named_event("cpu", "mem-loads-aux");
    if (use != PmuUse::loads || !code) return std::nullopt;
    perf_event_attr leader{};
    leader.size = sizeof leader;
    leader.type = attr.type;
    leader.config = *code;
    leader.disabled = 1;
    leader.use_clockid = attr.use_clockid;  // the kernel takes events of one clock only into a group
    leader.clockid = attr.clockid;
    leader.exclude_kernel = attr.exclude_kernel;
    leader.exclude_hv = attr.exclude_hv;
    return leader;
}

Result<PerfSourceConfig> pebs(PmuUse use) {
    auto library = PmuLibrary::make();
    if (!library) return std::unexpected(library.error());
    auto event = library->event_for(use);
    if (!event) return std::unexpected(event.error());
    std::string name(event->name);
    if (event->precise == 0)
        return fail(Code::unsupported, "sample", name, "this processor only counts it, without addresses");
    auto encoded = library->encode(name);
    if (!encoded) return std::unexpected(encoded.error());
    PerfSourceConfig config;
    config.name = name;
    config.attr = sampling_attr(encoded->type, encoded->config, kFirstPeriod);
    config.attr.config1 = encoded->config1;
    config.attr.precise_ip = event->precise & 3u;
    config.leader = leader_of(use, config.attr);
    if (auto opened = try_open(config); !opened) return std::unexpected(opened.error());
    return config;
}

// config bit 19 counts micro-ops instead of cycles: so samples follow what is executed. IBS knows no
// privilege levels before Linux 6.15, so nothing is excluded; kernel addresses fall out in attribution.
Result<PerfSourceConfig> ibs() {
    auto type = pmu_type("ibs_op");
    if (!type) return std::unexpected(type.error());
    PerfSourceConfig config;
    config.name = "ibs_op/cnt_ctl=1/";
    config.attr = sampling_attr(*type, 1u << 19, kFirstIbsPeriod);
    config.attr.exclude_kernel = 0;
    config.attr.exclude_hv = 0;
    if (auto opened = try_open(config); !opened) return std::unexpected(opened.error());
    return config;
}

SourceOffer hardware(const std::string& name, const std::string& record_fields) {
    SourceOffer offer;
    offer.name = name;
    offer.record_fields = record_fields;
    auto config = hardware_source(name);
    offer.available = config.has_value();
    if (config)
        offer.event = config->name;
    else
        offer.unavailable_reason = config.error().text();
    return offer;
}

SourceOffer spe(const std::string& record_fields) {
    SourceOffer offer;
    offer.name = "spe";
    offer.record_fields = record_fields;
    if (!exists("/sys/bus/event_source/devices/arm_spe_0")) {
        offer.unavailable_reason = "only Arm processors have it, and this one shows none";
        return offer;
    }
    auto opened = SpeSource::open(false);
    offer.available = opened.has_value();
    opened ? offer.event = (*opened)->name() : offer.unavailable_reason = opened.error().text();
    return offer;
}

}  // namespace

Result<PerfSourceConfig> hardware_source(const std::string& name, PmuUse use) {
    if (name == "pebs") return pebs(use);
    if (name == "ibs") return ibs();
    return fail(Code::bad_config, "use source", name, "hardware sources are pebs and ibs");
}

std::string why_no_damon(const std::string& root) {
    const std::string admin = root + "/kernel/mm/damon/admin/kdamonds";
    if (!exists(admin)) return "the kernel has no DAMON (CONFIG_DAMON_SYSFS, CONFIG_DAMON_PADDR)";
    std::string count = read_sysfs_line(admin + "/nr_kdamonds");
    if (count != "0") {
        // What it does there shows whose it is: a machine that gives memory back to its host pages out what is cold.
        std::string action = read_sysfs_line(admin + "/0/contexts/0/schemes/0/action");
        return fmt::format("its control files are for one user, and another has set up {} of its threads{}",
                           count.empty() ? "some" : count,
                           action.empty() ? "" : fmt::format(", the first for the scheme {}", action));
    }
    return "it looks at one page of a region at a time, and an arena's small pages lie scattered in physical "
           "memory: regions of the size of an extent would be as many as pages";
}

std::string why_no_idle(const std::string& root) {
    if (!exists(root + "/kernel/mm/page_idle/bitmap"))
        return "the kernel has no idle page tracking (CONFIG_IDLE_PAGE_TRACKING)";
    return "it shows whether a page was touched, for 512 pages per extent: hint costs less and shows when";
}

std::vector<SourceOffer> discover_sources() {
    const std::string precise = "instruction, thread, address, latency, kind of memory";
    return {hardware("pebs", precise),
            hardware("ibs", precise),
            spe(precise),
            {"hint", "extent and thread of a touch", true, "", "minor faults"},
            {"damon", "touched or not, by region", false, why_no_damon("/sys"), ""},
            {"idle", "touched or not, by page", false, why_no_idle("/sys"), ""}};
}

uint64_t measure_source_cost_ns(PerfSourceConfig config) {
    constexpr uint64_t kUnknownNs = 2000;  // an interrupt and a record, where none came to be measured
    constexpr size_t kBytes = 16u << 20;
    config.this_thread = true;
    config.attr.sample_period /= 16;
    auto source = PerfSource::open(config);
    if (!source) return kUnknownNs;
    std::vector<char> memory(kBytes, 1);
    uint64_t records = 0, sum = 0;
    auto work = [&] {
        uint64_t at = 1;
        for (int i = 0; i < 200'000; i++) {
            at = at * 6364136223846793005u + 1442695040888963407u;
            sum += static_cast<uint64_t>(static_cast<volatile char&>(memory[(at >> 33) % kBytes]));
        }
    };
    uint64_t cost_ns = measure_record_cost_ns(
        work, [&](bool on) { (*source)->set_recording(on); },
        [&] {
            (*source)->drain([&](const AccessRecord&) { records++; });
            return records;
        });
    return cost_ns == 0 ? kUnknownNs : cost_ns;
}

}  // namespace tierd
