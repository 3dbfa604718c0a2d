// perf_event.h - opens events of the kernel's perf interface, and explains why one can't be opened.
//
// Owns:      nothing; each descriptor goes to the caller.
// Callers:   any thread.
// Source:    perf_event_open(2); Documentation/admin-guide/perf-security.rst.
#pragma once

#include <linux/perf_event.h>
#include <sys/types.h>

#include <string>

#include "lib/base/fd.h"

namespace tierd {

inline constexpr int kAnyCpu = -1;
inline constexpr pid_t kEveryProcess = -1;

// An attr with what every source of ours asks for: samples with instruction, thread, time, address, CPU and
// period, on CLOCK_MONOTONIC, of user code only, disabled at first.
perf_event_attr sampling_attr(uint32_t type, uint64_t config, uint64_t period);

// perf_event_open(2), close-on-exec. `leader`: the event of its group; -1: none. Errors: denied, unsupported or
// kernel_refused, with a hint that helps.
Result<Fd> open_event(const perf_event_attr& attr, pid_t thread, int cpu, const std::string& name,
                      int leader = -1);

// The bits that a PMU of the kernel gives a named event, as config. Only names that are "event=0x..,umask=0x..".
// Errors: unsupported where there is no such name.
Result<uint64_t> named_event(const std::string& pmu, const std::string& event,
                             const std::string& root = "/sys");
// The type number of a PMU of the kernel, "ibs_op". Errors: unsupported where the machine has none.
Result<uint32_t> pmu_type(const std::string& name);

// /proc/sys/kernel/perf_event_paranoid; 2 where it can't be read, as the kernel's default.
int perf_paranoid();

}  // namespace tierd
