// residency_report.h - sends tierd the bytes of weight files that are in the GPU's memory, for display.
// Nothing is decided by it.
//
// Callers:   the lease's thread, with the GPU's lock held.
#pragma once

#include "cuda_shim/cuda/reserved_range.h"
#include "cuda_shim/cuda/source.h"

namespace tierd::shim::cuda {

// False when tierd did not take all of it.
bool send_residency(int socket, uint32_t* sequence, const ReservedRange& range, const Sources& sources);

}  // namespace tierd::shim::cuda
