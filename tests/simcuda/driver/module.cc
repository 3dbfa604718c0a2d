#include "tests/simcuda/driver/module.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "lib/base/fd.h"
#include "tests/simcuda/driver/misuse.h"

namespace simcuda {
namespace {

constexpr const char kPrefix[] = "simcuda_kernel_";
constexpr uint16_t kCubinMachine = 190;  // EM_CUDA
constexpr uint32_t kFatBinaryMagic = 0xBA55ED50;
constexpr uint32_t kFatBinaryWrapperMagic = 0x466243B1;

const simcuda_kernel* look_up(void* handle, const std::string& name) {
    return static_cast<const simcuda_kernel*>(::dlsym(handle, (kPrefix + name).c_str()));
}

const Elf64_Ehdr* elf_header(const void* image) {
    auto* header = static_cast<const Elf64_Ehdr*>(image);
    return std::memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 ? header : nullptr;
}

bool is_fat_binary(const void* image) {
    uint32_t magic;
    std::memcpy(&magic, image, sizeof magic);
    return magic == kFatBinaryMagic || magic == kFatBinaryWrapperMagic;
}

// The end of the section table or of the last section: cuModuleLoadData is not told how long an image is.
size_t object_bytes(const Elf64_Ehdr* header) {
    size_t end = header->e_shoff + size_t{header->e_shentsize} * header->e_shnum;
    auto* sections =
        reinterpret_cast<const Elf64_Shdr*>(reinterpret_cast<const char*>(header) + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; ++i)
        if (sections[i].sh_type != SHT_NOBITS)
            end = std::max(end, sections[i].sh_offset + sections[i].sh_size);
    return end;
}

bool write_all(int fd, const char* bytes, size_t count) {
    while (count > 0) {
        ssize_t written = ::write(fd, bytes, count);
        if (written < 0) return false;
        bytes += written;
        count -= static_cast<size_t>(written);
    }
    return true;
}

// The names in the object's dynamic symbol table that are kernels.
std::vector<std::string> exported_kernels(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::string> names;
    if (all.size() < sizeof(Elf64_Ehdr)) return names;
    auto* header = reinterpret_cast<const Elf64_Ehdr*>(all.data());
    auto* sections = reinterpret_cast<const Elf64_Shdr*>(all.data() + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; ++i) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        const char* strings = all.data() + sections[sections[i].sh_link].sh_offset;
        auto* symbols = reinterpret_cast<const Elf64_Sym*>(all.data() + sections[i].sh_offset);
        for (size_t s = 0; s < sections[i].sh_size / sizeof(Elf64_Sym); ++s) {
            std::string_view name = strings + symbols[s].st_name;
            if (symbols[s].st_shndx != SHN_UNDEF && name.starts_with(kPrefix))
                names.emplace_back(name.substr(sizeof kPrefix - 1));
        }
    }
    return names;
}

bool same_params(const simcuda_kernel& kernel, const std::vector<simcuda_param>& params) {
    return std::equal(params.begin(), params.end(), kernel.params, kernel.params + kernel.param_count,
                      [](const simcuda_param& a, const simcuda_param& b) {
                          return a.offset_bytes == b.offset_bytes && a.size_bytes == b.size_bytes;
                      });
}

}  // namespace

std::string KernelLibraries::open(const std::string& paths) {
    for (size_t at = 0; at < paths.size();) {
        size_t end = std::min(paths.find(':', at), paths.size());
        std::string path = paths.substr(at, end - at);
        at = end + 1;
        if (path.empty()) continue;
        void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle) return ::dlerror();
        handles_.push_back(handle);
    }
    return {};
}

const simcuda_kernel* KernelLibraries::find(const std::string& name) const {
    for (void* handle : handles_)
        if (const simcuda_kernel* kernel = look_up(handle, name)) return kernel;
    return look_up(RTLD_DEFAULT, name);
}

uint32_t Function::block_bytes() const {
    if (kernel->param_count == 0) return 0;
    const simcuda_param& last = kernel->params[kernel->param_count - 1];
    return last.offset_bytes + last.size_bytes;
}

CUresult Module::load_file(const KernelLibraries& libraries, const char* path, std::shared_ptr<Module>* out) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::string all{std::istreambuf_iterator<char>(file), {}};
    all.resize(std::max(all.size(),
                        sizeof(Elf64_Ehdr)));  // short files are zero-filled: the heads are compared whole
    const Elf64_Ehdr* elf = elf_header(all.data());
    if (!elf || elf->e_machine == kCubinMachine) return load_image(libraries, all.c_str(), out);
    std::shared_ptr<Module> module(new Module(libraries));
    CUresult result = module->load_object(
        std::string(path).find('/') == std::string::npos ? std::string("./") + path : path);
    if (result == CUDA_SUCCESS) *out = std::move(module);
    return result;
}

CUresult Module::load_image(const KernelLibraries& libraries, const void* image,
                            std::shared_ptr<Module>* out) {
    std::shared_ptr<Module> module(new Module(libraries));
    CUresult result = CUDA_SUCCESS;
    const Elf64_Ehdr* elf = elf_header(image);
    if (elf && elf->e_machine != kCubinMachine) {
        tierd::Fd file(::memfd_create("simcuda-module", MFD_CLOEXEC));
        if (!file || !write_all(file.get(), static_cast<const char*>(image), object_bytes(elf)))
            return CUDA_ERROR_OUT_OF_MEMORY;
        result = module->load_object("/proc/self/fd/" + std::to_string(file.get()));
    } else if (!elf && !is_fat_binary(image)) {
        result = module->load_ptx(static_cast<const char*>(image));
    }
    if (result == CUDA_SUCCESS) *out = std::move(module);
    return result;
}

CUresult Module::load_object(const std::string& path) {
    object_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!object_)
        return misuse(CUDA_ERROR_INVALID_IMAGE, "no shared object of this machine: {}", ::dlerror());
    exported_ = exported_kernels(path);
    return CUDA_SUCCESS;
}

CUresult Module::load_ptx(std::string_view text) {
    if (!looks_like_ptx(text)) return CUDA_ERROR_INVALID_IMAGE;
    ptx_ = ptx_entries(text);
    if (!ptx_) return CUDA_ERROR_INVALID_PTX;
    for (const PtxEntry& entry : *ptx_) {
        const simcuda_kernel* kernel = libraries_.find(entry.name);
        if (kernel && !same_params(*kernel, entry.params))
            return misuse(CUDA_ERROR_INVALID_PTX,
                          "the parameters of {} in PTX are not those of its host function", entry.name);
    }
    return CUDA_SUCCESS;
}

Module::~Module() {
    if (object_) ::dlclose(object_);
}

CUresult Module::kernel(const std::string& name, const simcuda_kernel** out) const {
    bool declared =
        !ptx_ || std::any_of(ptx_->begin(), ptx_->end(), [&](const PtxEntry& e) { return e.name == name; });
    const simcuda_kernel* found = object_    ? look_up(object_, name)
                                  : declared ? libraries_.find(name)
                                             : nullptr;
    if (!found) return CUDA_ERROR_NOT_FOUND;
    if (found->abi != SIMCUDA_KERNEL_ABI)
        return misuse(CUDA_ERROR_INVALID_IMAGE, "kernel {} was made for another simcuda (abi {})", name,
                      found->abi);
    *out = found;
    return CUDA_SUCCESS;
}

std::vector<std::string> Module::names() const {
    if (!ptx_) return exported_;
    std::vector<std::string> all;
    for (const PtxEntry& entry : *ptx_) all.push_back(entry.name);
    return all;
}

}  // namespace simcuda
