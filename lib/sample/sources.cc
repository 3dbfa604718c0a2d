#include "lib/sample/sources.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "lib/sample/perf_event.h"
#include "lib/sample/period.h"
#include "lib/sample/pmu_events.h"

namespace tierd {

namespace {

constexpr uint64_t kFirstPeriod = 20'011;     // a prime: loops with a period of their own are not met in step
constexpr uint64_t kFirstIbsPeriod = 0x4000;  // micro-ops; a multiple of 16

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

std::string first_word(const std::string& path) {
    std::ifstream in(path);
    std::string word;
    in >> word;
    return word;
}

void want_memory_fields(perf_event_attr& attr) {
    attr.sample_type |= PERF_SAMPLE_WEIGHT | PERF_SAMPLE_DATA_SRC | PERF_SAMPLE_PHYS_ADDR;
}

// Physical addresses are for the privileged; without them the rest is as good.
Result<void> try_open(perf_event_attr& attr, const std::string& name) {
    auto opened = open_event(attr, kEveryProcess, 0, name);
    if (!opened && opened.error().code == Code::denied) {
        attr.sample_type &= ~uint64_t{PERF_SAMPLE_PHYS_ADDR};
        opened = open_event(attr, kEveryProcess, 0, name);
    }
    return opened ? Result<void>{} : std::unexpected(opened.error());
}

Result<PerfSourceConfig> pebs() {
    auto library = PmuLibrary::make();
    if (!library) return std::unexpected(library.error());
    auto event = library->event_for(PmuUse::loads);
    if (!event) return std::unexpected(event.error());
    std::string name(event->name);
    auto encoded = library->encode(name);
    if (!encoded) return std::unexpected(encoded.error());
    PerfSourceConfig config;
    config.name = name;
    config.attr = sampling_attr(encoded->type, encoded->config, kFirstPeriod);
    config.attr.config1 = encoded->config1;
    config.attr.precise_ip = event->precise & 3u;
    want_memory_fields(config.attr);
    if (auto opened = try_open(config.attr, name); !opened) return std::unexpected(opened.error());
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
    want_memory_fields(config.attr);
    if (auto opened = try_open(config.attr, config.name); !opened) return std::unexpected(opened.error());
    return config;
}

SourceOffer hardware(const std::string& name, const std::string& tells) {
    SourceOffer offer;
    offer.name = name;
    offer.tells = tells;
    auto config = hardware_source(name);
    offer.available = config.has_value();
    if (config)
        offer.event = config->name;
    else
        offer.why_not = config.error().text();
    return offer;
}

std::string why_no_spe() {
    if (!exists("/sys/bus/event_source/devices/arm_spe_0"))
        return "only Arm processors have it, and this one shows none";
    return "its records come as packets of the processor's own in an AUX buffer, which tierd does not read; "
           "hint serves";
}

std::string why_no_damon() {
    const std::string admin = "/sys/kernel/mm/damon/admin/kdamonds";
    if (!exists(admin)) return "the kernel has no DAMON (CONFIG_DAMON_SYSFS, CONFIG_DAMON_PADDR)";
    std::string count = first_word(admin + "/nr_kdamonds");
    if (count != "0")
        return fmt::format("its control files are for one user, and another has set up {} of its threads",
                           count);
    return "it looks at one page of a region at a time, and an arena's small pages lie scattered in physical "
           "memory: "
           "regions of the size of an extent would be as many as pages";
}

std::string why_no_idle() {
    if (!exists("/sys/kernel/mm/page_idle/bitmap"))
        return "the kernel has no idle page tracking (CONFIG_IDLE_PAGE_TRACKING)";
    return "it tells whether a page was touched, for 512 pages an extent: hint asks for less and tells when";
}

}  // namespace

Result<PerfSourceConfig> hardware_source(const std::string& name) {
    if (name == "pebs") return pebs();
    if (name == "ibs") return ibs();
    return fail(Code::bad_config, "use source", name, "hardware sources are pebs and ibs");
}

std::vector<SourceOffer> discover_sources() {
    const std::string precise = "instruction, thread, address, latency, kind of memory";
    return {hardware("pebs", precise),
            hardware("ibs", precise),
            {"spe", precise, false, why_no_spe(), ""},
            {"hint", "extent and thread of a touch", true, "", "minor faults"},
            {"damon", "touched or not, by region", false, why_no_damon(), ""},
            {"idle", "touched or not, by page", false, why_no_idle(), ""}};
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
        work, [&](bool on) { on ? (*source)->resume() : (*source)->pause(); },
        [&] {
            (*source)->drain([&](const AccessRecord&) { records++; });
            return records;
        });
    return cost_ns == 0 ? kUnknownNs : cost_ns;
}

}  // namespace tierd
