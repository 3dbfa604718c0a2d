// preload.h - starts a preload or another job, and follows it.
//
// Callers:   tierctl's only thread; blocks until the job is finished, as long as tierd answers.
#pragma once

#include <string>

#include "cli/tierctl/client.h"

namespace tierd {

// Waits for the end of the job that `job` tells of; as preload().
Answer follow_job(const Client& client, Answer job, bool wait);

// Returns the job as tierd last told it: finished, unless `wait` is false. Draws a progress bar on stderr
// where that is a terminal. A job that failed is a Failure.
Answer preload(const Client& client, const std::string& model, bool wait);

}  // namespace tierd
