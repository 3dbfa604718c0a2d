#include "tests/simcuda/driver/launch.h"

#include <cstring>

#include "tests/simcuda/driver/misuse.h"

namespace simcuda {
namespace {

CUresult refuse_shape(const Function& f, const LaunchShape& s) {
    for (int i = 0; i < 3; ++i)
        if (s.grid[i] == 0 || s.block[i] == 0)
            return misuse(CUDA_ERROR_INVALID_VALUE, "kernel {}: a dimension of 0 in the launch", f.name);
    if (s.grid[1] > 65535 || s.grid[2] > 65535 || uint64_t{s.block[0]} * s.block[1] * s.block[2] > 1024)
        return misuse(CUDA_ERROR_INVALID_VALUE,
                      "kernel {}: grid {}x{}x{} of blocks {}x{}x{} is beyond the GPU", f.name, s.grid[0],
                      s.grid[1], s.grid[2], s.block[0], s.block[1], s.block[2]);
    if (s.shared_bytes > static_cast<unsigned>(f.max_dynamic_shared_bytes.load()))
        return misuse(CUDA_ERROR_INVALID_VALUE, "kernel {}: {} bytes of shared memory, {} allowed", f.name,
                      s.shared_bytes, f.max_dynamic_shared_bytes.load());
    return CUDA_SUCCESS;
}

// `extra` is a list of names and values up to CU_LAUNCH_PARAM_END: one buffer and its size.
CUresult params_from_extra(const Function& f, void** extra, std::vector<std::byte>* out) {
    const void* buffer = nullptr;
    size_t size = 0;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = extra[1];
        else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            size = *static_cast<size_t*>(extra[1]);
        else
            return misuse(CUDA_ERROR_INVALID_VALUE, "kernel {}: an unknown entry in `extra`", f.name);
    }
    if (!buffer || size < out->size())
        return misuse(CUDA_ERROR_INVALID_VALUE, "kernel {}: parameters of {} bytes, {} given", f.name,
                      out->size(), size);
    std::memcpy(out->data(), buffer, out->size());
    return CUDA_SUCCESS;
}

}  // namespace

CUresult kernel_op(Driver& d, CUfunction handle, const LaunchShape& shape, void** params, void** extra,
                   KernelOp* out) {
    out->handle = handle;
    out->function = d.functions.find(handle);
    if (!out->function)
        return misuse(CUDA_ERROR_INVALID_HANDLE, "no function, or one of a module that was unloaded");
    const Function& f = *out->function;
    out->module = d.modules.find(f.module);
    if (CUresult bad = refuse_shape(f, shape); bad != CUDA_SUCCESS) return bad;
    std::memcpy(out->grid, shape.grid, sizeof out->grid);
    std::memcpy(out->block, shape.block, sizeof out->block);
    out->shared_bytes = shape.shared_bytes;
    out->params.assign(f.block_bytes(), std::byte{0});
    if (f.kernel->param_count == 0) return CUDA_SUCCESS;
    if (!params && extra) return params_from_extra(f, extra, &out->params);
    if (!params || extra)
        return misuse(CUDA_ERROR_INVALID_VALUE, "kernel {} takes {} parameters: give them one way", f.name,
                      f.kernel->param_count);
    for (uint32_t i = 0; i < f.kernel->param_count; ++i)
        std::memcpy(out->params.data() + f.kernel->params[i].offset_bytes, params[i],
                    f.kernel->params[i].size_bytes);
    return CUDA_SUCCESS;
}

}  // namespace simcuda
