// sequence_test.cc - ten thousand random sequences of what programs do with device memory, each compared with a model of
// memory on the host. SIMCUDA_SEED repeats a run, SIMCUDA_SEQUENCES changes how many.
#define BOOST_TEST_MODULE simcuda_sequence
#include <cuda.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "tests/simcuda/test/gpu.h"

using namespace simcuda_test;

namespace {

constexpr uint64_t kGpuBytes = 12 << 20;
constexpr uint64_t kChunk = 2 << 20;

enum class Way { plain, stream_ordered, mapped };

struct Buffer {
    Way way = Way::plain;
    CUdeviceptr at = 0;
    size_t stream = 0;                 // its bytes change in this stream's order
    uint64_t charged = 0;              // what the GPU must be missing because of it
    uint64_t area_bytes = 0;           // reserved, for Way::mapped
    std::vector<unsigned char> bytes;  // what it must hold once its stream is done
};

uint64_t number_from(const char* name, uint64_t otherwise) {
    const char* text = ::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Sequence {
  public:
    Sequence(std::mt19937_64& random, CUfunction scramble, const std::vector<CUstream>& streams, void* pinned)
        : random_(random),
          scramble_(scramble),
          streams_(streams),
          pinned_(static_cast<unsigned char*>(pinned)) {}

    void run() {
        size_t steps = 3 + below(10);
        for (size_t i = 0; i < steps; ++i) step();
        while (!buffers_.empty()) release(buffers_.size() - 1);
        ok(cuCtxSynchronize());
        check_free_bytes();
    }

  private:
    uint64_t below(uint64_t limit) { return random_() % limit; }
    Buffer& any() { return *buffers_[below(buffers_.size())]; }
    CUstream stream_of(const Buffer& b) const { return streams_[b.stream]; }

    void step() {
        uint64_t what = buffers_.empty() ? 0 : below(9);
        switch (what) {
            case 0:
                return allocate();
            case 1:
                return allocate();
            case 2:
                return copy_in(any());
            case 3:
                return check(any());
            case 4:
                return copy_across(any(), any());
            case 5:
                return fill(any());
            case 6:
                return launch(any(), any());
            case 7:
                return move(any());
            default:
                return release(below(buffers_.size()));
        }
    }

    uint64_t missing_bytes() const {
        uint64_t sum = 0;
        for (const auto& b : buffers_) sum += b->charged;
        return sum;
    }
    void check_free_bytes() {
        size_t free = 0, total = 0;
        ok(cuMemGetInfo(&free, &total));
        BOOST_REQUIRE_EQUAL(free, kGpuBytes - missing_bytes());
    }

    void allocate() {
        auto b = std::make_unique<Buffer>();
        b->way = static_cast<Way>(below(3));
        b->stream = below(streams_.size());
        uint64_t bytes = below(20) ? 1 + below(9000) : kChunk + below(2 * kChunk);
        b->charged =
            b->way == Way::mapped ? (bytes + kChunk - 1) / kChunk * kChunk : (bytes + 511) / 512 * 512;
        // What was freed on a stream may still be under way; the model frees at once.
        ok(cuCtxSynchronize());
        CUresult result = take(*b, bytes);
        bool fits = missing_bytes() + b->charged <= kGpuBytes;
        BOOST_REQUIRE_EQUAL(result, fits ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
        if (!fits) return check_free_bytes();
        b->bytes.resize(bytes);
        buffers_.push_back(std::move(b));
        check_free_bytes();
        copy_in(*buffers_.back());
    }

    CUresult take(Buffer& b, uint64_t bytes) {
        if (b.way == Way::plain) return cuMemAlloc(&b.at, bytes);
        if (b.way == Way::stream_ordered) return cuMemAllocAsync(&b.at, bytes, stream_of(b));
        b.area_bytes = b.charged + kChunk;  // room to move by one chunk
        ok(cuMemAddressReserve(&b.at, b.area_bytes, 0, 0, 0));
        return map(b, b.at);
    }

    // Chunk by chunk, so that copies span mappings. A full GPU takes back what was mapped.
    CUresult map(Buffer& b, CUdeviceptr at) {
        for (uint64_t done = 0; done < b.charged; done += kChunk) {
            CUmemGenericAllocationHandle handle = 0;
            CUmemAllocationProp prop = gpu_memory();
            if (CUresult full = cuMemCreate(&handle, kChunk, &prop, 0); full != CUDA_SUCCESS) {
                if (done) ok(cuMemUnmap(at, done));
                ok(cuMemAddressFree(b.at, b.area_bytes));
                return full;
            }
            map_chunk(at + done, handle);
            ok(cuMemRelease(handle));
        }
        return CUDA_SUCCESS;
    }

    void copy_in(Buffer& b) {
        uint64_t offset = below(b.bytes.size()), count = b.bytes.size() - offset;
        if (below(2) || count > kChunk) {
            std::vector<unsigned char> pageable(count);
            for (uint64_t i = 0; i < count; i += 1 + count / 64)
                pageable[i] = static_cast<unsigned char>(random_());
            ok(cuMemcpyHtoDAsync(b.at + offset, pageable.data(), count, stream_of(b)));
            std::copy(pageable.begin(), pageable.end(), b.bytes.begin() + static_cast<long>(offset));
            std::fill(pageable.begin(), pageable.end(), 0xEE);  // it was read when the call returned
        } else {
            ok(cuStreamSynchronize(stream_of(b)));
            for (uint64_t i = 0; i < count; ++i) pinned_[i] = static_cast<unsigned char>(i * 7 + offset);
            ok(cuMemcpyHtoDAsync(b.at + offset, pinned_, count, stream_of(b)));
            std::copy(pinned_, pinned_ + count, b.bytes.begin() + static_cast<long>(offset));
            ok(cuStreamSynchronize(stream_of(b)));
        }
        if (offset) fill_from(b, 0, offset);
    }

    // Both streams see the other's work on the two buffers, in the order of these calls.
    template <class Work>
    void together(Buffer& to, Buffer& from, Work work) {
        CUevent event = nullptr;
        ok(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        ok(cuEventRecord(event, stream_of(from)));
        ok(cuStreamWaitEvent(stream_of(to), event, 0));
        work(stream_of(to));
        ok(cuEventRecord(event, stream_of(to)));
        ok(cuStreamWaitEvent(stream_of(from), event, 0));
        ok(cuEventDestroy(event));
    }

    void copy_across(Buffer& to, Buffer& from) {
        if (&to == &from) return;
        uint64_t count = 1 + below(std::min(to.bytes.size(), from.bytes.size()));
        together(to, from, [&](CUstream s) { ok(cuMemcpyDtoDAsync(to.at, from.at, count, s)); });
        std::copy_n(from.bytes.begin(), count, to.bytes.begin());
    }

    void fill_from(Buffer& b, uint64_t offset, uint64_t count) {
        auto value = static_cast<unsigned char>(random_());
        ok(cuMemsetD8Async(b.at + offset, value, count, stream_of(b)));
        std::fill_n(b.bytes.begin() + static_cast<long>(offset), count, value);
    }
    void fill(Buffer& b) {
        uint64_t offset = below(b.bytes.size());
        fill_from(b, offset, 1 + below(b.bytes.size() - offset));
    }

    void launch(Buffer& to, Buffer& from) {
        uint64_t count = 1 + below(std::min(to.bytes.size(), from.bytes.size()));
        auto salt = static_cast<unsigned char>(random_());
        together(to, from, [&](CUstream s) {
            void* params[] = {&from.at, &to.at, &count, &salt};
            ok(cuLaunchKernel(scramble_, 1, 1, 1, 1, 1, 1, 0, s, params, nullptr));
        });
        for (uint64_t i = 0; i < count; ++i)
            to.bytes[i] = static_cast<unsigned char>(from.bytes[i] * 31 + salt);
    }

    // The same memory at another address: nothing of it may change.
    void move(Buffer& b) {
        if (b.way != Way::mapped) return;
        ok(cuStreamSynchronize(stream_of(b)));
        ok(cuCtxSynchronize());  // other streams may read it
        CUdeviceptr area = 0;
        ok(cuMemAddressReserve(&area, b.area_bytes, 0, 0, 0));
        CUdeviceptr to = area + (below(2) ? kChunk : 0);
        for (uint64_t done = 0; done < b.charged; done += kChunk) {
            CUmemGenericAllocationHandle handle = 0;
            ok(cuMemRetainAllocationHandle(&handle, reinterpret_cast<void*>(b.at + done)));
            ok(cuMemUnmap(b.at + done, kChunk));
            map_chunk(to + done, handle);
            ok(cuMemRelease(handle));
        }
        drop_area(b);
        area_[to] = area;
        b.at = to;
    }

    void drop_area(const Buffer& b) {
        auto it = area_.find(b.at);
        ok(cuMemAddressFree(it == area_.end() ? b.at : it->second, b.area_bytes));
        area_.erase(b.at);
    }

    void check(Buffer& b) {
        std::vector<unsigned char> out(b.bytes.size());
        ok(cuMemcpyDtoHAsync(out.data(), b.at, out.size(), stream_of(b)));
        BOOST_REQUIRE(out == b.bytes);
    }

    void release(size_t index) {
        std::unique_ptr<Buffer> b = std::move(buffers_[index]);
        buffers_.erase(buffers_.begin() + static_cast<long>(index));
        check(*b);
        if (b->way == Way::plain) return ok(cuMemFree(b->at));
        ok(cuCtxSynchronize());  // work of other streams on it, and what check() did
        if (b->way == Way::stream_ordered) return ok(cuMemFreeAsync(b->at, stream_of(*b)));
        ok(cuMemUnmap(b->at, b->charged));
        drop_area(*b);
    }

    std::mt19937_64& random_;
    CUfunction scramble_;
    const std::vector<CUstream>& streams_;
    unsigned char* pinned_;
    std::vector<std::unique_ptr<Buffer>> buffers_;
    std::map<CUdeviceptr, CUdeviceptr> area_;  // where the reservation of a moved buffer starts
};

}  // namespace

BOOST_AUTO_TEST_CASE(random_sequences_leave_memory_as_the_model_says) {
    ::setenv("SIMCUDA_MEMORY", std::to_string(kGpuBytes).c_str(), 1);
    uint64_t seed = number_from("SIMCUDA_SEED", std::random_device{}());
    uint64_t sequences = number_from("SIMCUDA_SEQUENCES", DEFAULT_SEQUENCES);
    BOOST_TEST_MESSAGE("SIMCUDA_SEED=" << seed << " SIMCUDA_SEQUENCES=" << sequences);
    std::mt19937_64 random(seed);
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction scramble = nullptr;
    ok(cuInit(0));
    ok(cuDevicePrimaryCtxRetain(&context, 0));
    ok(cuCtxSetCurrent(context));
    ok(cuModuleLoad(&module, TEST_KERNELS));
    ok(cuModuleGetFunction(&scramble, module, "scramble"));
    std::vector<CUstream> streams(3);
    for (CUstream& s : streams) ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    void* pinned = nullptr;
    ok(cuMemHostAlloc(&pinned, kChunk + 1, 0));
    for (uint64_t i = 0; i < sequences; ++i) {
        BOOST_TEST_CONTEXT("sequence " << i << " of SIMCUDA_SEED=" << seed)
        Sequence(random, scramble, streams, pinned).run();
    }
}
