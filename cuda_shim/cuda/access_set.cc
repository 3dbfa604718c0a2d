#include "cuda_shim/cuda/access_set.h"

#include <string.h>

namespace tierd::shim::cuda {

void AccessSet::add(uint32_t allocation, uint32_t first, uint32_t end) {
    for (uint32_t i = 0; i < count; i++) {
        Part& part = parts[i];
        if (part.allocation != allocation) continue;
        if (first < part.first) part.first = first;
        if (end > part.end) part.end = end;
        return;
    }
    if (count == kParts)
        everything = true;
    else
        parts[count++] = {allocation, first, end};
}

bool AccessSet::holds(uint32_t allocation, uint32_t chunk) const {
    if (everything) return true;
    for (uint32_t i = 0; i < count; i++)
        if (parts[i].allocation == allocation && chunk >= parts[i].first && chunk < parts[i].end) return true;
    return false;
}

void AccessSet::add_address(const ReservedRange& range, uint64_t address) {
    uint32_t row = range.find(address);
    if (row == kNone) return;
    const Allocation& allocation = range.allocation(row);
    add(row, allocation.first, allocation.first + allocation.chunks);
}

void AccessSet::add_range(const ReservedRange& range, uint64_t address, uint64_t length_bytes) {
    uint32_t row = range.find(address);
    if (row == kNone || length_bytes == 0) return;
    const Allocation& allocation = range.allocation(row);
    uint64_t end = range.address_of(allocation.first + allocation.chunks);
    uint64_t last = length_bytes < end - address ? address + length_bytes - 1 : end - 1;
    add(row, range.chunk_at(address), range.chunk_at(last) + 1);
}

void AccessSet::add_words(const ReservedRange& range, const void* bytes, size_t length) {
    if (bytes == nullptr) return;
    for (size_t at = 0; at + sizeof(uint64_t) <= length; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        ::memcpy(&word, static_cast<const char*>(bytes) + at, sizeof word);
        if (range.holds(word)) add_address(range, word);
    }
}

namespace {

// One after the other the parameters of a function, or of a library's kernel that came under a function's type.
class Described {
  public:
    explicit Described(CUfunction function) : function_(function) {}

    // CUDA_ERROR_INVALID_VALUE: there is no such parameter.
    CUresult size_of(size_t index, size_t* size) {
        auto* of_function = TIERD_REAL(cuFuncGetParamInfo);
        auto* of_kernel = TIERD_REAL(cuKernelGetParamInfo);
        size_t offset = 0;
        CUresult told = CUDA_ERROR_NOT_SUPPORTED;
        if (!is_kernel_ && of_function != nullptr) told = of_function(function_, index, &offset, size);
        if (told == CUDA_SUCCESS || told == CUDA_ERROR_INVALID_VALUE || of_kernel == nullptr) return told;
        is_kernel_ = true;
        return of_kernel(reinterpret_cast<CUkernel>(function_), index, &offset, size);
    }

  private:
    CUfunction function_;
    bool is_kernel_ = false;
};

}  // namespace

void AccessSet::add_parameters(const ReservedRange& range, CUfunction function, void** parameters,
                               void** extra) {
    if (parameters == nullptr) {
        const void* buffer = nullptr;
        const size_t* length = nullptr;
        for (void** word = extra; word != nullptr && *word != CU_LAUNCH_PARAM_END; word += 2) {
            if (*word == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = word[1];
            if (*word == CU_LAUNCH_PARAM_BUFFER_SIZE) length = static_cast<const size_t*>(word[1]);
        }
        if (buffer != nullptr && length != nullptr) add_words(range, buffer, *length);
        return;
    }
    Described described(function);
    for (size_t i = 0;; i++) {
        size_t size = 0;
        CUresult told = described.size_of(i, &size);
        if (told == CUDA_ERROR_INVALID_VALUE) return;
        if (told != CUDA_SUCCESS) {
            everything = true;
            return;
        }
        add_words(range, parameters[i], size);
    }
}

}  // namespace tierd::shim::cuda
