#include "lib/sample/perf_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "lib/sample/perf_event.h"

namespace tierd {

namespace {

std::vector<int> online_cpus() {
    std::vector<int> cpus;
    long count = ::sysconf(_SC_NPROCESSORS_CONF);
    for (int cpu = 0; cpu < count; cpu++) {
        // CPU 0 has no such file where it can't be taken away.
        std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}", cpu);
        if (::access((folder + "/online").c_str(), R_OK) != 0) {
            if (::access(folder.c_str(), F_OK) == 0) cpus.push_back(cpu);
            continue;
        }
        Result<Fd> fd = open_file(folder + "/online", O_RDONLY);
        char online = '0';
        if (fd && ::read(fd->get(), &online, 1) == 1 && online == '1') cpus.push_back(cpu);
    }
    return cpus;
}

std::vector<pid_t> threads_of(pid_t process) {
    if (process == kEveryProcess) return {kEveryProcess};
    std::vector<pid_t> threads;
    std::error_code error;
    for (auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process), error)) {
        std::string name = entry.path().filename();
        pid_t thread = 0;
        std::from_chars(name.data(), name.data() + name.size(), thread);
        threads.push_back(thread);
    }
    return threads;
}

}  // namespace

PerfSource::PerfSource(const PerfSourceConfig& config) : config_(config) {
    format_.fields = config.attr.sample_type;
    format_.read_format = config.attr.read_format;
}

Result<std::unique_ptr<PerfSource>> PerfSource::open(const PerfSourceConfig& config) {
    std::unique_ptr<PerfSource> source(new PerfSource(config));
    if (auto opened = source->open_everywhere(); !opened) return std::unexpected(opened.error());
    source->set_recording(true);
    return source;
}

Result<void> PerfSource::open_everywhere() {
    if (config_.this_thread) return open_on_cpu(kAnyCpu, {0});
    auto threads = threads_of(config_.process);
    if (threads.empty()) return fail(Code::gone, "sample process", std::to_string(config_.process));
    // Children of a thread write into the ring of the CPU that they run on.
    if (config_.process != kEveryProcess) config_.attr.inherit = 1;
    for (int cpu : online_cpus())
        if (auto opened = open_on_cpu(cpu, threads); !opened) return opened;
    return {};
}

Result<void> PerfSource::open_on_cpu(int cpu, const std::vector<pid_t>& threads) {
    int owner = -1;
    for (pid_t thread : threads) {
        auto event = open_one(thread, cpu);
        if (!event && event.error().code == Code::gone) continue;  // it ended meanwhile
        if (!event) return std::unexpected(event.error());
        if (owner < 0) {
            if (auto added = add_ring(*event); !added) return added;
            owner = event->get();
        } else if (::ioctl(event->get(), PERF_EVENT_IOC_SET_OUTPUT, owner) != 0) {
            return os_error("share a ring", config_.name);
        }
        events_.push_back(std::move(*event));
    }
    return owner >= 0 ? Result<void>{} : fail(Code::gone, "sample process", std::to_string(config_.process));
}

Result<Fd> PerfSource::open_one(pid_t thread, int cpu) {
    if (!config_.leader) return open_event(config_.attr, thread, cpu, config_.name);
    perf_event_attr first = *config_.leader;
    first.inherit = config_.attr.inherit;
    auto leader = open_event(first, thread, cpu, config_.name);
    if (!leader) return leader;
    auto event = open_event(config_.attr, thread, cpu, config_.name, leader->get());
    if (event) leaders_.push_back(std::move(*leader));
    return event;
}

Result<void> PerfSource::add_ring(const Fd& event) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t length = page + config_.ring_bytes;
    void* memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), 0);
    if (memory == MAP_FAILED) {
        Error why{
            errno == EPERM ? Code::no_space : Code::kernel_refused, errno, "map ring", config_.name, {}};
        if (errno == EPERM) why.hint = "raise kernel.perf_event_mlock_kb, or give tierd CAP_IPC_LOCK";
        return std::unexpected(std::move(why));
    }
    Mapping mapping(memory, length);
    std::span data(reinterpret_cast<const std::byte*>(mapping.data()) + page, config_.ring_bytes);
    rings_.push_back({std::move(mapping), PerfRing(static_cast<perf_event_mmap_page*>(memory), data)});
    return {};
}

void PerfSource::drain(const Sink& sink) {
    for (Ring& ring : rings_)
        ring.reader.drain(
            [&](uint32_t type, std::span<const std::byte> body) { on_record(type, body, sink); });
}

void PerfSource::on_record(uint32_t type, std::span<const std::byte> body, const Sink& sink) {
    if (type == PERF_RECORD_SAMPLE) {
        AccessRecord record;
        if (!parse_sample(body, format_, record)) {
            counters_.damaged++;
            return;
        }
        if ((format_.fields & PERF_SAMPLE_PERIOD) == 0) record.period = config_.attr.sample_period;
        counters_.records++;
        sink(record);
    } else if (type == PERF_RECORD_LOST && body.size() >= 16) {
        uint64_t lost = 0;
        std::memcpy(&lost, body.data() + 8, sizeof lost);
        counters_.lost += lost;
    } else if (type == PERF_RECORD_LOST_SAMPLES && body.size() >= 8) {
        uint64_t lost = 0;
        std::memcpy(&lost, body.data(), sizeof lost);
        counters_.lost += lost;
    } else if (type == PERF_RECORD_THROTTLE) {
        counters_.throttled++;
    }
}

SourceCounters PerfSource::counters() const {
    SourceCounters counters = counters_;
    for (const Ring& ring : rings_) {
        counters.damaged += ring.reader.damaged();
        counters.wrapped += ring.reader.wrapped();
    }
    return counters;
}

Result<void> PerfSource::set_period(uint64_t period) {
    for (const Fd& event : events_)
        if (::ioctl(event.get(), PERF_EVENT_IOC_PERIOD, &period) != 0)
            return os_error("set period", config_.name);
    config_.attr.sample_period = period;
    return {};
}

void PerfSource::set_recording(bool on) {
    for (const Fd& leader : leaders_)
        ::ioctl(leader.get(), on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
    for (const Fd& event : events_)
        ::ioctl(event.get(), on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
}

}  // namespace tierd
