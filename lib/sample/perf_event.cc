#include "lib/sample/perf_event.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <fstream>

namespace tierd {

perf_event_attr sampling_attr(uint32_t type, uint64_t config, uint64_t period) {
    perf_event_attr attr{};
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    attr.sample_period = period;
    attr.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR |
                       PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD;
    attr.disabled = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    attr.use_clockid = 1;  // mappings are dated with it too
    attr.clockid = CLOCK_MONOTONIC;
    return attr;
}

int perf_paranoid() {
    std::ifstream in("/proc/sys/kernel/perf_event_paranoid");
    int level = 2;
    in >> level;
    return level;
}

static std::unexpected<Error> explain(int error, const perf_event_attr& attr, pid_t thread,
                                      const std::string& name) {
    Error why{Code::kernel_refused, error, "open event", name, {}};
    if (error == EACCES || error == EPERM) {
        why.code = Code::denied;
        why.hint = fmt::format(
            "kernel.perf_event_paranoid is {}: give tierd CAP_PERFMON, or set it to {} with `sysctl "
            "kernel.perf_event_paranoid={}`",
            perf_paranoid(), thread == kEveryProcess ? 0 : 1, thread == kEveryProcess ? 0 : 1);
    } else if (error == ENOENT || error == ENODEV || error == ENODATA || error == EOPNOTSUPP) {
        why.code = Code::unsupported;
        why.hint =
            attr.precise_ip > 0
                ? "this processor, or the virtual machine that it is shown through, has no such precise event"
                : "this machine has no such event; virtual machines often have no hardware counters";
    } else if (error == EMFILE || error == ENFILE) {
        why.code = Code::no_space;
        why.hint = "each CPU and event takes a descriptor: raise LimitNOFILE";
    } else if (error == ESRCH) {
        why.code = Code::gone;
    } else if (error == EINVAL) {
        why.code = Code::unsupported;
        why.hint = "this kernel does not take the event with these fields";
    } else if (error == EBUSY) {
        why.code = Code::busy;
        why.hint = "another program has taken the counter for itself";
    }
    return std::unexpected(std::move(why));
}

Result<Fd> open_event(const perf_event_attr& attr, pid_t thread, int cpu, const std::string& name,
                      int leader) {
    perf_event_attr copy = attr;
    long fd = ::syscall(SYS_perf_event_open, &copy, thread, cpu, leader, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) return explain(errno, attr, thread, name);
    return Fd(static_cast<int>(fd));
}

Result<uint64_t> named_event(const std::string& pmu, const std::string& event, const std::string& root) {
    std::ifstream in(root + "/bus/event_source/devices/" + pmu + "/events/" + event);
    std::string text;
    std::getline(in, text);
    unsigned code = 0, mask = 0;
    if (std::sscanf(text.c_str(), "event=%x,umask=%x", &code, &mask) != 2 || code > 0xff || mask > 0xff)
        return fail(Code::unsupported, "find event", pmu + "/" + event, "the kernel names no such event");
    return uint64_t{mask} << 8 | code;
}

Result<uint32_t> pmu_type(const std::string& name) {
    std::ifstream in("/sys/bus/event_source/devices/" + name + "/type");
    uint32_t type = 0;
    if (!(in >> type))
        return fail(Code::unsupported, "find PMU", name, "this machine or its kernel has none");
    return type;
}

}  // namespace tierd
