#include "cuda_shim/cuda/chunk_store.h"

#include <string.h>

#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

bool ChunkStore::prepare() {
    for (Stage& stage : stages_) {
        stage.buffer = driver::allocate_pinned(range_.chunk_bytes());
        if (stage.buffer == nullptr || !driver::create_event(&stage.copied)) return false;
    }
    return true;
}

CUresult ChunkStore::start_fill(uint32_t index) {
    const Chunk& chunk = range_.chunk(index);
    Stage& stage = stages_[next_stage_++ % kStages];
    CUstream stream = streams_.copies();
    if (CUresult busy = driver::wait(stage.copied); !driver::ok(busy)) return busy;
    if (chunk.saved != 0) {
        CUresult result =
            driver::copy_to_device(range_.address_of(index), reinterpret_cast<const void*>(chunk.saved),
                                   range_.chunk_bytes(), stream);
        if (!driver::ok(result)) return result;
        counters_.bytes_from_saved += range_.chunk_bytes();
    }
    if (CUresult result = copy_slices(index, stage); !driver::ok(result)) return result;
    if (CUresult result = driver::record(stage.copied, stream); !driver::ok(result)) return result;
    return driver::make_wait(streams_.hashes(), stage.copied);
}

CUresult ChunkStore::copy_slices(uint32_t index, Stage& stage) {
    CUdeviceptr address = range_.address_of(index);
    for (uint32_t row = range_.chunk(index).slices; row != kNone; row = range_.slice(row).next) {
        const FileSlice& slice = range_.slice(row);
        char* staged = stage.buffer + slice.begin;
        if (CUresult result = read(slice, staged); !driver::ok(result)) return result;
        CUresult result =
            driver::copy_to_device(address + slice.begin, staged, slice.length, streams_.copies());
        if (!driver::ok(result)) return result;
        counters_.bytes_from_files += slice.length;
    }
    return CUDA_SUCCESS;
}

CUresult ChunkStore::read(const FileSlice& slice, char* into) const {
    if (!sources_.unchanged(slice.file)) {
        log_info() << "a weight file changed after it was loaded: what the engine loaded can't be had again";
        return CUDA_ERROR_FILE_NOT_FOUND;
    }
    ::memcpy(into, sources_.bytes(slice.file, slice.offset_bytes), slice.length);
    return CUDA_SUCCESS;
}

bool ChunkStore::start_spill(uint32_t index) {
    Chunk& chunk = range_.chunk(index);
    if (chunk.saved == 0) chunk.saved = take_copy();
    return chunk.saved != 0 &&
           driver::ok(driver::copy_to_host(reinterpret_cast<void*>(chunk.saved), range_.address_of(index),
                                           range_.chunk_bytes(), streams_.copies()));
}

uint64_t ChunkStore::take_copy() {
    if (free_copies_ != 0) {
        uint64_t address = free_copies_;
        free_copies_ = *reinterpret_cast<uint64_t*>(address);
        return address;
    }
    char* memory = driver::allocate_pinned(range_.chunk_bytes());
    if (memory == nullptr) log_info() << "no pinned host memory for chunks of the GPU";
    return reinterpret_cast<uint64_t>(memory);
}

void ChunkStore::free_copy(uint32_t index) {
    uint64_t address = range_.chunk(index).saved;
    if (address == 0) return;
    *reinterpret_cast<uint64_t*>(address) = free_copies_;
    free_copies_ = address;
}

}  // namespace tierd::shim::cuda
