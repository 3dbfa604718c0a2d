// metrics.h - the counters as Prometheus scrapes them (text format 0.0.4).
//
// Callers:   any thread; a pure function of its arguments.
#pragma once

#include <string>
#include <vector>

#include "lib/engine/status.h"

namespace tierd {

// Every counter and gauge with its HELP and TYPE lines; times in seconds, sizes in bytes, as Prometheus asks.
std::string prometheus_text(const EngineStatus& status, const std::vector<ModelStatus>& models,
                            const std::vector<TierStatus>& tiers, const PolicyStatus& policy);

}  // namespace tierd
