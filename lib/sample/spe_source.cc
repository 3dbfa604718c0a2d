#include "lib/sample/spe_source.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "lib/sample/perf_event.h"
#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

constexpr uint64_t kFirstPeriod = 1u << 16;  // operations
constexpr size_t kDataBytes = 64 * 1024, kAuxBytes = 1024 * 1024;
constexpr uint32_t kWakeBytes =
    16 * 1024;  // about 250 records: the kernel reports what it wrote in blocks of this size
// Bits of config.
constexpr uint64_t kTimestamps = 1u << 0, kPhysical = 1u << 1, kJitter = 1u << 16;
constexpr uint64_t kLoads = uint64_t{1} << 33, kStores = uint64_t{1} << 34;

perf_event_attr spe_attr(uint32_t type, bool stores) {
    perf_event_attr attr = sampling_attr(type, kTimestamps | kPhysical | kJitter, kFirstPeriod);
    attr.config |= stores ? kStores : kLoads;
    attr.sample_type = kSpeSampleFields;
    attr.sample_id_all = 1;
    attr.context_switch = 1;
    attr.aux_watermark = kWakeBytes;
    return attr;
}

uint64_t main_id(int cpu) {
    std::string text =
        read_sysfs_line(fmt::format("/sys/devices/system/cpu/cpu{}/regs/identification/midr_el1", cpu));
    return std::strtoull(text.c_str(), nullptr, 16);
}

Result<Mapping> map_ring(const Fd& event, size_t length, uint64_t offset, int cpu) {
    void* memory =
        ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), static_cast<off_t>(offset));
    if (memory != MAP_FAILED) return Mapping(memory, length);
    Error why{errno == EPERM ? Code::no_space : Code::kernel_refused,
              errno,
              "map SPE's ring",
              fmt::format("cpu {}", cpu),
              {}};
    if (errno == EPERM) why.hint = "raise kernel.perf_event_mlock_kb, or give tierd CAP_IPC_LOCK";
    return std::unexpected(std::move(why));
}

}  // namespace

Result<std::unique_ptr<SpeSource>> SpeSource::open(bool stores) {
    auto type = pmu_type("arm_spe_0");
    if (!type) return std::unexpected(type.error());
    std::unique_ptr<SpeSource> source(new SpeSource());
    source->period_ = kFirstPeriod;
    perf_event_attr attr = spe_attr(*type, stores);
    for (int cpu : parse_cpu_list(read_sysfs_line("/sys/bus/event_source/devices/arm_spe_0/cpumask")))
        if (auto opened = source->open_on(cpu, attr); !opened) return std::unexpected(opened.error());
    if (source->processors_.empty())
        return fail(Code::unsupported, "sample with SPE", {}, "the kernel lists no processor that has it");
    source->set_recording(true);
    return source;
}

Result<void> SpeSource::open_on(int cpu, perf_event_attr& attr) {
    auto event = open_event(attr, kEveryProcess, cpu, "arm_spe_0");
    if (!event && event.error().code == Code::denied && (attr.config & kPhysical) != 0) {
        attr.config &= ~kPhysical;  // for the privileged; without them the rest is as good
        event = open_event(attr, kEveryProcess, cpu, "arm_spe_0");
    }
    if (!event) return std::unexpected(event.error());
    const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    auto data = map_ring(*event, page_bytes + kDataBytes, 0, cpu);
    if (!data) return std::unexpected(data.error());
    auto* page = reinterpret_cast<perf_event_mmap_page*>(data->data());
    page->aux_offset = page_bytes + kDataBytes;
    page->aux_size = kAuxBytes;
    auto aux = map_ring(*event, kAuxBytes, page->aux_offset, cpu);
    if (!aux) return std::unexpected(aux.error());
    std::span data_ring(reinterpret_cast<const std::byte*>(data->data()) + page_bytes, kDataBytes);
    std::span aux_ring(reinterpret_cast<const std::byte*>(aux->data()), kAuxBytes);
    auto stream = std::make_unique<SpeStream>(page, data_ring, aux_ring, static_cast<uint32_t>(cpu),
                                              is_neoverse(main_id(cpu)));
    processors_.push_back({std::move(*event), std::move(*data), std::move(*aux), std::move(stream)});
    return {};
}

void SpeSource::drain(const Sink& sink) {
    for (Processor& processor : processors_) processor.stream->drain(period_, sink);
}

SourceCounters SpeSource::counters() const {
    SourceCounters sum;
    for (const Processor& processor : processors_) {
        SourceCounters one = processor.stream->counters();
        sum.records += one.records;
        sum.lost += one.lost + processor.stream->without_thread();
        sum.throttled += one.throttled;
        sum.damaged += one.damaged;
        sum.wrapped += one.wrapped;
    }
    return sum;
}

Result<void> SpeSource::set_period(uint64_t period) {
    for (const Processor& processor : processors_)
        if (::ioctl(processor.event.get(), PERF_EVENT_IOC_PERIOD, &period) != 0)
            return os_error("set period", "arm_spe_0");
    period_ = period;
    return {};
}

void SpeSource::set_recording(bool on) {
    for (const Processor& processor : processors_)
        ::ioctl(processor.event.get(), on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
}

}  // namespace tierd
