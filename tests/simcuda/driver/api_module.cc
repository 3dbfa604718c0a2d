// api_module.cc - modules, libraries, functions, and what can be asked of them. A CUkernel is the function itself.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>

#include "tests/simcuda/driver/entry.h"

using namespace simcuda;

namespace {

template <class Load>
CUresult load(const char* name, CUmodule* out, Load load_it) {
    return in_context(name, [&](Driver& d, Context&) {
        std::shared_ptr<Module> module;
        CUresult result = load_it(d, &module);
        if (result == CUDA_SUCCESS) *out = d.modules.add(std::move(module));
        return result;
    });
}

CUresult load_image(const char* name, CUmodule* out, const void* image) {
    return load(name, out, [&](Driver& d, std::shared_ptr<Module>* m) -> CUresult {
        if (!image) return misuse(CUDA_ERROR_INVALID_VALUE, "no image");
        return Module::load_image(d.libraries, image, m);
    });
}

CUresult find_module(Driver& d, CUmodule handle, std::shared_ptr<Module>* out) {
    *out = d.modules.find(handle);
    if (*out) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_HANDLE, "no module, or one that was unloaded");
}

// A library is a module too, so that its kernels are functions like any other.
CUmodule module_of(CUlibrary library) {
    return reinterpret_cast<CUmodule>(library);
}

CUresult get_function(Driver& d, CUmodule handle, const std::string& name, CUfunction* out) {
    std::shared_ptr<Module> module;
    if (CUresult bad = find_module(d, handle, &module); bad != CUDA_SUCCESS) return bad;
    std::lock_guard lock(module->mutex);
    auto it = module->functions.find(name);
    if (it == module->functions.end()) {
        auto function = std::make_shared<Function>();
        function->name = name;
        function->module = handle;
        if (CUresult bad = module->kernel(name, &function->kernel); bad != CUDA_SUCCESS) return bad;
        it = module->functions.emplace(name, d.functions.add(std::move(function))).first;
    }
    *out = it->second;
    return CUDA_SUCCESS;
}

CUresult unload(Driver& d, CUmodule handle) {
    std::shared_ptr<Module> module = d.modules.remove(handle);
    if (!module) return misuse(CUDA_ERROR_INVALID_HANDLE, "no module, or one that was unloaded before");
    std::lock_guard lock(module->mutex);
    for (const auto& [name, function] : module->functions) d.functions.remove(function);
    return CUDA_SUCCESS;
}

template <class Body>
CUresult with_function(const char* name, CUfunction handle, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        std::shared_ptr<Function> function = d.functions.find(handle);
        if (!function)
            return misuse(CUDA_ERROR_INVALID_HANDLE, "no function, or one of a module that was unloaded");
        return body(d, *function);
    });
}

CUresult param_info(const char* call, CUfunction handle, size_t index, size_t* offset, size_t* size) {
    return with_function(call, handle, [&](Driver&, Function& f) {
        if (index >= f.kernel->param_count)
            return CUDA_ERROR_INVALID_VALUE;  // this is how programs count parameters
        *offset = f.kernel->params[index].offset_bytes;
        if (size) *size = f.kernel->params[index].size_bytes;
        return CUDA_SUCCESS;
    });
}

CUresult function_attribute(int* out, CUfunction_attribute which, CUfunction handle) {
    return with_function("cuFuncGetAttribute", handle, [&](Driver&, Function& f) {
        switch (which) {
            case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
                *out = 1024;
                break;
            case CU_FUNC_ATTRIBUTE_NUM_REGS:
                *out = 32;
                break;
            case CU_FUNC_ATTRIBUTE_PTX_VERSION:
            case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
                *out = 90;
                break;
            case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
                *out = f.max_dynamic_shared_bytes;
                break;
            default:
                *out = 0;
                break;
        }
        return which >= 0 && which < CU_FUNC_ATTRIBUTE_MAX ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

CUresult set_function_attribute(CUfunction handle, CUfunction_attribute which, int value) {
    return with_function("cuFuncSetAttribute", handle, [&](Driver&, Function& f) {
        if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) f.max_dynamic_shared_bytes = value;
        return CUDA_SUCCESS;
    });
}

CUresult list(Driver& d, CUmodule handle, unsigned count, CUfunction* out) {
    std::shared_ptr<Module> module;
    if (CUresult bad = find_module(d, handle, &module); bad != CUDA_SUCCESS) return bad;
    std::vector<std::string> names = module->names();
    for (unsigned i = 0; i < std::min<size_t>(count, names.size()); ++i)
        if (CUresult bad = get_function(d, handle, names[i], &out[i]); bad != CUDA_SUCCESS) return bad;
    return CUDA_SUCCESS;
}

CUresult count(Driver& d, CUmodule handle, unsigned* out) {
    std::shared_ptr<Module> module;
    if (CUresult bad = find_module(d, handle, &module); bad != CUDA_SUCCESS) return bad;
    *out = static_cast<unsigned>(module->names().size());
    return CUDA_SUCCESS;
}

}  // namespace

CUresult CUDAAPI cuModuleLoad(CUmodule* out, const char* path) {
    return load("cuModuleLoad", out, [&](Driver& d, std::shared_ptr<Module>* m) {
        return Module::load_file(d.libraries, path, m);
    });
}
CUresult CUDAAPI cuModuleLoadData(CUmodule* out, const void* image) {
    return load_image("cuModuleLoadData", out, image);
}
CUresult CUDAAPI cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned int, CUjit_option*, void**) {
    return load_image("cuModuleLoadDataEx", out, image);
}
CUresult CUDAAPI cuModuleLoadFatBinary(CUmodule* out, const void* image) {
    return load_image("cuModuleLoadFatBinary", out, image);
}
CUresult CUDAAPI cuModuleUnload(CUmodule module) {
    return in_context("cuModuleUnload", [&](Driver& d, Context&) { return unload(d, module); });
}
CUresult CUDAAPI cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name) {
    return in_context("cuModuleGetFunction",
                      [&](Driver& d, Context&) { return get_function(d, module, name, out); });
}
CUresult CUDAAPI cuModuleGetFunctionCount(unsigned int* out, CUmodule module) {
    return in_context("cuModuleGetFunctionCount", [&](Driver& d, Context&) { return count(d, module, out); });
}
CUresult CUDAAPI cuModuleEnumerateFunctions(CUfunction* out, unsigned int n, CUmodule module) {
    return in_context("cuModuleEnumerateFunctions",
                      [&](Driver& d, Context&) { return list(d, module, n, out); });
}
CUresult CUDAAPI cuModuleGetGlobal_v2(CUdeviceptr*, size_t*, CUmodule module, const char*) {
    return in_context("cuModuleGetGlobal", [&](Driver& d, Context&) {
        std::shared_ptr<Module> found;
        CUresult bad = find_module(d, module, &found);
        return bad == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : bad;  // host functions have no device variables
    });
}
CUresult CUDAAPI cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
    return entry("cuModuleGetLoadingMode",
                 [&](Driver&) { return *mode = CU_MODULE_EAGER_LOADING, CUDA_SUCCESS; });
}

CUresult CUDAAPI cuLibraryLoadData(CUlibrary* out, const void* image, CUjit_option*, void**, unsigned int,
                                   CUlibraryOption*, void**, unsigned int) {
    return entry("cuLibraryLoadData", [&](Driver& d) -> CUresult {
        std::shared_ptr<Module> module;
        CUresult result = Module::load_image(d.libraries, image, &module);
        if (result == CUDA_SUCCESS) *out = reinterpret_cast<CUlibrary>(d.modules.add(std::move(module)));
        return result;
    });
}
CUresult CUDAAPI cuLibraryLoadFromFile(CUlibrary* out, const char* path, CUjit_option*, void**, unsigned int,
                                       CUlibraryOption*, void**, unsigned int) {
    return entry("cuLibraryLoadFromFile", [&](Driver& d) -> CUresult {
        std::shared_ptr<Module> module;
        CUresult result = Module::load_file(d.libraries, path, &module);
        if (result == CUDA_SUCCESS) *out = reinterpret_cast<CUlibrary>(d.modules.add(std::move(module)));
        return result;
    });
}
CUresult CUDAAPI cuLibraryUnload(CUlibrary library) {
    return entry("cuLibraryUnload", [&](Driver& d) { return unload(d, module_of(library)); });
}
CUresult CUDAAPI cuLibraryGetModule(CUmodule* out, CUlibrary library) {
    return entry("cuLibraryGetModule", [&](Driver&) { return *out = module_of(library), CUDA_SUCCESS; });
}
CUresult CUDAAPI cuLibraryGetKernel(CUkernel* out, CUlibrary library, const char* name) {
    return entry("cuLibraryGetKernel", [&](Driver& d) {
        return get_function(d, module_of(library), name, reinterpret_cast<CUfunction*>(out));
    });
}
CUresult CUDAAPI cuLibraryGetKernelCount(unsigned int* out, CUlibrary library) {
    return entry("cuLibraryGetKernelCount", [&](Driver& d) { return count(d, module_of(library), out); });
}
CUresult CUDAAPI cuLibraryEnumerateKernels(CUkernel* out, unsigned int n, CUlibrary library) {
    return entry("cuLibraryEnumerateKernels", [&](Driver& d) {
        return list(d, module_of(library), n, reinterpret_cast<CUfunction*>(out));
    });
}
CUresult CUDAAPI cuKernelGetFunction(CUfunction* out, CUkernel kernel) {
    return with_function(
        "cuKernelGetFunction", reinterpret_cast<CUfunction>(kernel),
        [&](Driver&, Function&) { return *out = reinterpret_cast<CUfunction>(kernel), CUDA_SUCCESS; });
}
CUresult CUDAAPI cuKernelGetName(const char** out, CUkernel kernel) {
    return with_function("cuKernelGetName", reinterpret_cast<CUfunction>(kernel),
                         [&](Driver&, Function& f) { return *out = f.name.c_str(), CUDA_SUCCESS; });
}
CUresult CUDAAPI cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t* offset, size_t* size) {
    return param_info("cuKernelGetParamInfo", reinterpret_cast<CUfunction>(kernel), index, offset, size);
}
CUresult CUDAAPI cuKernelGetAttribute(int* out, CUfunction_attribute which, CUkernel kernel, CUdevice) {
    return function_attribute(out, which, reinterpret_cast<CUfunction>(kernel));
}
CUresult CUDAAPI cuKernelSetAttribute(CUfunction_attribute which, int value, CUkernel kernel, CUdevice) {
    return set_function_attribute(reinterpret_cast<CUfunction>(kernel), which, value);
}

CUresult CUDAAPI cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* size) {
    return param_info("cuFuncGetParamInfo", function, index, offset, size);
}
CUresult CUDAAPI cuFuncGetName(const char** out, CUfunction function) {
    return with_function("cuFuncGetName", function,
                         [&](Driver&, Function& f) { return *out = f.name.c_str(), CUDA_SUCCESS; });
}
CUresult CUDAAPI cuFuncGetModule(CUmodule* out, CUfunction function) {
    return with_function("cuFuncGetModule", function,
                         [&](Driver&, Function& f) { return *out = f.module, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuFuncGetAttribute(int* out, CUfunction_attribute which, CUfunction function) {
    return function_attribute(out, which, function);
}
CUresult CUDAAPI cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
    return set_function_attribute(function, which, value);
}
CUresult CUDAAPI cuFuncSetCacheConfig(CUfunction function, CUfunc_cache) {
    return with_function("cuFuncSetCacheConfig", function, [](Driver&, Function&) { return CUDA_SUCCESS; });
}
CUresult CUDAAPI cuFuncIsLoaded(CUfunctionLoadingState* out, CUfunction function) {
    return with_function("cuFuncIsLoaded", function, [&](Driver&, Function&) {
        return *out = CU_FUNCTION_LOADING_STATE_LOADED, CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuFuncLoad(CUfunction function) {
    return with_function("cuFuncLoad", function, [](Driver&, Function&) { return CUDA_SUCCESS; });
}
CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessor(int* out, CUfunction function, int, size_t) {
    return with_function("cuOccupancyMaxActiveBlocksPerMultiprocessor", function,
                         [&](Driver&, Function&) { return *out = 1, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* out, CUfunction function, int,
                                                                      size_t, unsigned int) {
    return with_function("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", function,
                         [&](Driver&, Function&) { return *out = 1, CUDA_SUCCESS; });
}
