// module.h - modules: where the kernels of the simulated GPU come from.
//
// An image is one of
//   a shared object of this machine, with simcuda_kernel_NAME objects (simcuda_kernel.h);
//   PTX: its .entry names are looked up in SIMCUDA_KERNELS and in the program itself, and the parameters that it declares
//     must be those of the host function;
//   a cubin or fat binary: names are looked up in the same way; what is in it is not read.
// Owns:    the handle of a loaded object. Callers: any thread. Fails: with the documented CUresult.
#pragma once

#include <cuda.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simcuda/driver/ptx.h"
#include "tests/simcuda/simcuda_kernel.h"

namespace simcuda {

// The objects named by SIMCUDA_KERNELS, opened once, and the program itself.
class KernelLibraries {
  public:
    // Errors: what dlopen says, as text; empty: all are there.
    std::string open(const std::string& paths);
    const simcuda_kernel* find(const std::string& name) const;  // null: nobody has it

  private:
    std::vector<void*> handles_;
};

struct Function {
    std::string name;
    const simcuda_kernel* kernel = nullptr;
    CUmodule module = nullptr;
    std::atomic<int> max_dynamic_shared_bytes = 48 << 10;
    uint32_t block_bytes() const;  // of all parameters
};

class Module {
  public:
    static CUresult load_file(const KernelLibraries& libraries, const char* path,
                              std::shared_ptr<Module>* out);
    static CUresult load_image(const KernelLibraries& libraries, const void* image,
                               std::shared_ptr<Module>* out);
    ~Module();

    // Errors: CUDA_ERROR_NOT_FOUND.
    CUresult kernel(const std::string& name, const simcuda_kernel** out) const;
    std::vector<std::string> names() const;  // the kernels that the image declares; none for a fat binary

    std::mutex mutex;  // functions
    std::map<std::string, CUfunction> functions;

  private:
    explicit Module(const KernelLibraries& libraries) : libraries_(libraries) {}
    CUresult load_ptx(std::string_view text);
    CUresult load_object(const std::string& path);

    const KernelLibraries& libraries_;
    void* object_ = nullptr;                    // a shared object
    std::vector<std::string> exported_;         // its kernels
    std::optional<std::vector<PtxEntry>> ptx_;  // PTX
};

}  // namespace simcuda
