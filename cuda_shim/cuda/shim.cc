#include "cuda_shim/cuda/shim.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_shim/host/log.h"
#include "cuda_shim/host/shim_state.h"

namespace tierd::shim::cuda {

constinit CudaShim the_shim;

// The hash kernel for the GPU, as hash.ptx has it.
__asm__(
    "    .section .rodata\n"
    "    .globl tierd_hash_ptx\n"
    "    .hidden tierd_hash_ptx\n"
    "tierd_hash_ptx:\n"
    "    .incbin \"" TIERD_HASH_PTX
    "\"\n"
    "    .byte 0\n"
    "    .text\n");

static uint64_t bytes_from(const char* name, uint64_t otherwise) {
    const char* value = ::getenv(name);
    if (value == nullptr || *value < '0' || *value > '9') return otherwise;
    return ::strtoull(value, nullptr, 10);
}

static void read_environment() {
    CudaConfig& config = the_shim.config;
    const char* mode = ::getenv("TIERD_CUDA");
    const char* info = ::getenv("TIERD_CUDA_MEMORY_INFO");
    config.mode = Mode::elastic;
    if (mode != nullptr && ::strcmp(mode, "off") == 0) config.mode = Mode::off;
    if (mode != nullptr && ::strcmp(mode, "uvm") == 0) config.mode = Mode::uvm;
    if (info != nullptr && ::strcmp(info, "lease") == 0) config.memory_info = MemoryInfo::lease;
    if (info != nullptr && ::strcmp(info, "real") == 0) config.memory_info = MemoryInfo::real;
    config.min_bytes = bytes_from("TIERD_CUDA_MIN_BYTES", config.min_bytes);
    uint64_t chunk = bytes_from("TIERD_CUDA_CHUNK_BYTES", kChunkBytes);
    if (chunk >= kPageBytes && chunk <= (1u << 30) && (chunk & (chunk - 1)) == 0) config.chunk_bytes = chunk;
    config.limit_bytes = bytes_from("TIERD_GPU_LIMIT", 0);
}

// In a forked child CUDA does not work, ours no more than the driver's.
static void after_fork_in_child() {
    the_shim.lock.reset();
    the_shim.gate.reset_in_child();
    the_shim.lease.reset_in_child();
    the_shim.reads.reset_in_child();
    __atomic_store_n(&the_shim.status, 1u, __ATOMIC_RELEASE);
}

static void log_counters(const GpuCounters& did) {
    log_info() << "GPU: " << did.bytes_deferred << " bytes deferred, " << did.chunks_filled
               << " chunks filled (" << did.bytes_from_files << " bytes of files, " << did.bytes_from_saved
               << " saved), " << did.chunks_dropped << " dropped, " << did.chunks_saved << " saved, "
               << did.waits << " waits, " << did.most_chunks << " most chunks at once, " << did.chunks_ahead
               << " read ahead, " << did.chunks_ahead_used << " of them used, "
               << the_shim.gpu.in_flight.whole_waits() << " waits for everything";
    if (did.reclaims == 0) return;
    log_info() << "GPU: gave back to others " << did.reclaims
               << " times; all drops together: " << did.patience_ns / 1000 << " us until idle, "
               << did.calls_ns / 1000 << " us for calls under way, " << did.proof_ns / 1000
               << " us for proofs, " << did.save_ns / 1000 << " us for saved chunks, " << did.return_ns / 1000
               << " us for the driver";
}

// A library's destructor: one line of what was done, where somebody asked for a log. Other threads still run, one
// perhaps stuck
// in a driver that is being taken down: the line is not worth waiting for it.
__attribute__((destructor)) static void log_at_exit() {
    constexpr uint32_t kPatienceMs = 1000;
    if (__atomic_load_n(&the_shim.status, __ATOMIC_ACQUIRE) != 2 || !the_shim.lock.lock_within(kPatienceMs))
        return;
    const GpuCounters& did = the_shim.gpu.counters;
    if (did.most_chunks > 0 || did.bytes_deferred > 0) log_counters(did);
    the_shim.lock.unlock();
}

bool is_enabled() {
    uint32_t status = __atomic_load_n(&the_shim.status, __ATOMIC_ACQUIRE);
    if (status != 0) return status == 2;
    if (!__atomic_load_n(&state().enabled, __ATOMIC_ACQUIRE))
        return false;  // before the host half's constructor
    LockGuard guard(the_shim.lock);
    if (the_shim.status != 0) return the_shim.status == 2;
    read_environment();
    bool on =
        the_shim.config.mode != Mode::off && ::pthread_atfork(nullptr, nullptr, after_fork_in_child) == 0;
    __atomic_store_n(&the_shim.status, on ? 2u : 1u, __ATOMIC_RELEASE);
    return on;
}

void give_up(const char* why) {
    if (__atomic_exchange_n(&the_shim.given_up, 1u, __ATOMIC_ACQ_REL) == 0)
        log_info() << "no more elastic memory on GPUs: " << why;
}

}  // namespace tierd::shim::cuda
