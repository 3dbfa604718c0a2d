// kernel_crash.h - says which kernel touched which device memory, when it crashes there; and lets managed memory come.
//
// Owns:    the process's handler of SIGSEGV and SIGBUS, from cuInit on. What is not a kernel's, or not an address of ours,
//          goes to whoever handled it before. After the line, the process dies of the signal as it would have. Managed
//          memory that is closed while kernels run is opened, and the touch done again.
// Callers: watch_for_kernel_crashes() once; a RunningKernel on the stream's thread around each kernel.
#pragma once

namespace simcuda {

class Managed;
class Memory;

void watch_for_kernel_crashes(const Memory& memory, Managed& managed);

class RunningKernel {
  public:
    explicit RunningKernel(const char* name);
    ~RunningKernel();
    RunningKernel(const RunningKernel&) = delete;
};

}  // namespace simcuda
