// elastic.h - whether the calling thread's allocations can be elastic.
#pragma once

namespace tierd::shim::cuda {

// True when the calling thread's context is that of the GPU, which is set up now if it was not, and tierd (or a limit)
// says how much there is. With the GPU's lock held.
bool have_gpu();

}  // namespace tierd::shim::cuda
