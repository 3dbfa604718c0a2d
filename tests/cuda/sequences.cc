// sequences.cc - random sequences of allocations, copies, launches and frees against a model of memory in this process.
//
//   sequences FIRST COUNT [WEIGHTS [UNIT]]   seeds FIRST to FIRST + COUNT - 1; WEIGHTS is a file that copies come from;
//                                            allocations are of 1 to 6 times UNIT bytes (1 MiB)
//
// A driver-API program: it knows nothing of the preloaded library, and must see the same bytes with it and without.
// Prints the seed of the first sequence that reads a wrong byte, and what it had done; exit status 1.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/cuda/driver_call.h"

namespace {

struct Weights {
    const uint8_t* bytes = nullptr;
    size_t size = 0;
    int fd = -1;

    explicit Weights(const char* path) {
        fd = ::open(path, O_RDONLY | O_CLOEXEC);
        struct stat st{};
        if (fd < 0 || ::fstat(fd, &st) != 0) std::exit(2);
        size = static_cast<size_t>(st.st_size);
        void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) std::exit(2);
        bytes = static_cast<const uint8_t*>(mapped);
    }
    Weights() = default;
};

// What the GPU should hold. Bytes that were never written may be anything.
struct Buffer {
    CUdeviceptr address = 0;
    std::vector<uint8_t> bytes;
    std::vector<uint8_t> known;
    bool is_async = false;
};

struct Range {
    size_t begin = 0, length = 0;
};

class Sequence {
  public:
    Sequence(uint64_t seed, const Weights& weights, size_t unit_bytes, CUfunction scramble, CUstream stream)
        : random_(seed), weights_(weights), unit_bytes_(unit_bytes), scramble_(scramble), stream_(stream) {}
    ~Sequence() {
        while (!buffers_.empty()) release(buffers_.size() - 1);
        if (bounce_ != nullptr) OK(cuMemFreeHost(bounce_));
    }

    bool run() {
        allocate();
        size_t steps = 4 + random_() % 12;
        for (size_t i = 0; i < steps; i++)
            if (!step()) return false;
        for (Buffer& buffer : buffers_)
            if (!verify(buffer, {0, buffer.bytes.size()})) return false;
        return true;
    }
    const std::string& story() const { return story_; }

  private:
    bool step() {
        Buffer& buffer = buffers_[random_() % buffers_.size()];
        switch (random_() % 11) {
            case 0:
                if (buffers_.size() < 4) allocate();
                return true;
            case 1:
                if (buffers_.size() > 1) release(random_() % buffers_.size());
                return true;
            case 2:
                copy_random(buffer);
                return true;
            case 3:
            case 4:
                if (weights_.size > 0) copy_weights(buffer);
                return true;
            case 5:
                set(buffer);
                return true;
            case 6:
                copy_within(buffer, buffers_[random_() % buffers_.size()]);
                return true;
            case 7:
                launch(buffer, buffers_[random_() % buffers_.size()]);
                return true;
            case 8:
                if (weights_.size > 0) copy_read(buffer);
                return true;
            case 9:
                if (weights_.size > 0) copy_there_and_back(buffer, buffers_[random_() % buffers_.size()]);
                return true;
            default:
                return verify(buffer, some(buffer));
        }
    }

    void tell(const char* what, const Buffer& buffer, Range range) {
        char line[128];
        std::snprintf(line, sizeof line, "  %s %llx+%zu %zu\n", what,
                      static_cast<unsigned long long>(buffer.address), range.begin, range.length);
        story_ += line;
    }

    // Mostly small and anywhere, sometimes whole.
    Range some(const Buffer& buffer) {
        size_t size = buffer.bytes.size();
        if (random_() % 4 == 0) return {0, size};
        size_t begin = random_() % size;
        size_t most = std::min<size_t>(size - begin, (unit_bytes_ >> 12) << (random_() % 14));
        return {begin, 1 + random_() % most};
    }

    void allocate() {
        Buffer buffer;
        buffer.bytes.resize(unit_bytes_ + random_() % (5 * unit_bytes_));
        buffer.known.resize(buffer.bytes.size());
        buffer.is_async = random_() % 3 == 0;
        if (buffer.is_async)
            OK(cuMemAllocAsync(&buffer.address, buffer.bytes.size(), stream_));
        else
            OK(cuMemAlloc_v2(&buffer.address, buffer.bytes.size()));
        tell("allocate", buffer, {0, buffer.bytes.size()});
        buffers_.push_back(std::move(buffer));
    }

    void release(size_t index) {
        Buffer& buffer = buffers_[index];
        tell("free", buffer, {});
        if (buffer.is_async)
            OK(cuMemFreeAsync(buffer.address, stream_));
        else
            OK(cuMemFree_v2(buffer.address));
        buffers_.erase(buffers_.begin() + static_cast<long>(index));
    }

    void write(Buffer& buffer, Range range, const uint8_t* bytes) {
        std::memcpy(buffer.bytes.data() + range.begin, bytes, range.length);
        std::memset(buffer.known.data() + range.begin, 1, range.length);
    }

    void copy_to_gpu(Buffer& buffer, Range range, const uint8_t* bytes) {
        if (random_() % 2 == 0) {
            OK(cuStreamSynchronize(stream_));  // the copy does not wait for a stream that is not blocking
            OK(cuMemcpyHtoD_v2(buffer.address + range.begin, bytes, range.length));
        } else {
            OK(cuMemcpyHtoDAsync_v2(buffer.address + range.begin, bytes, range.length, stream_));
            OK(cuStreamSynchronize(stream_));
        }
        write(buffer, range, bytes);
    }

    void copy_random(Buffer& buffer) {
        Range range = some(buffer);
        std::vector<uint8_t> bytes(range.length);
        uint64_t word = random_();
        for (size_t i = 0; i < bytes.size(); i++)
            bytes[i] = static_cast<uint8_t>((word += 0x9e3779b97f4a7c15u) >> 56);
        tell("copy bytes to", buffer, range);
        copy_to_gpu(buffer, range, bytes.data());
    }

    void copy_weights(Buffer& buffer) {
        Range range = some(buffer);
        range.length = std::min(range.length, weights_.size);
        size_t from = random_() % (weights_.size - range.length + 1);
        tell("copy weights to", buffer, range);
        copy_to_gpu(buffer, range, weights_.bytes + from);
    }

    uint8_t* read_weights(size_t length) {
        if (bounce_ == nullptr) OK(cuMemAllocHost_v2(&bounce_, 6 * unit_bytes_));
        size_t from = random_() % (weights_.size - length + 1);
        if (::pread(weights_.fd, bounce_, length, static_cast<off_t>(from)) != static_cast<ssize_t>(length))
            std::exit(2);
        return static_cast<uint8_t*>(bounce_);
    }

    // What was read from the file into a pinned buffer, and sometimes changed there.
    void copy_read(Buffer& buffer) {
        Range range = some(buffer);
        range.length = std::min(range.length, weights_.size);
        uint8_t* bytes = read_weights(range.length);
        bool changed = random_() % 3 == 0;
        if (changed) bytes[random_() % range.length] ^= 1;
        tell(changed ? "copy what was read and changed to" : "copy what was read to", buffer, range);
        copy_to_gpu(buffer, range, bytes);
    }

    // The pinned buffer holds the file's bytes when the second copy is asked for, and the GPU's when it is made.
    void copy_there_and_back(Buffer& from, Buffer& to) {
        if (&from == &to) return;
        Range source = some(from), target = some(to);
        size_t length = std::min({source.length, target.length, weights_.size});
        tell("copy out of", from, source);
        tell("     back to", to, target);
        uint8_t* bytes = read_weights(length);
        OK(cuMemcpyDtoHAsync_v2(bytes, from.address + source.begin, length, stream_));
        OK(cuMemcpyHtoDAsync_v2(to.address + target.begin, bytes, length, stream_));
        OK(cuStreamSynchronize(stream_));
        std::memcpy(to.bytes.data() + target.begin, from.bytes.data() + source.begin, length);
        std::memcpy(to.known.data() + target.begin, from.known.data() + source.begin, length);
    }

    void set(Buffer& buffer) {
        Range range = some(buffer);
        uint8_t value = static_cast<uint8_t>(random_());
        tell("set", buffer, range);
        OK(cuMemsetD8Async(buffer.address + range.begin, value, range.length, stream_));
        OK(cuStreamSynchronize(stream_));
        std::memset(buffer.bytes.data() + range.begin, value, range.length);
        std::memset(buffer.known.data() + range.begin, 1, range.length);
    }

    void copy_within(Buffer& from, Buffer& to) {
        if (&from == &to) return;
        Range source = some(from), target = some(to);
        size_t length = std::min(source.length, target.length);
        tell("copy from", from, source);
        tell("     to", to, target);
        OK(cuMemcpyDtoDAsync_v2(to.address + target.begin, from.address + source.begin, length, stream_));
        OK(cuStreamSynchronize(stream_));
        std::memcpy(to.bytes.data() + target.begin, from.bytes.data() + source.begin, length);
        std::memcpy(to.known.data() + target.begin, from.known.data() + source.begin, length);
    }

    void launch(Buffer& from, Buffer& to) {
        Range source = some(from), target = some(to);
        uint64_t count = std::min(source.length, target.length);
        if (&from == &to) target = source;
        CUdeviceptr a = from.address + source.begin, b = to.address + target.begin;
        unsigned char salt = static_cast<unsigned char>(random_());
        void* parameters[] = {&a, &b, &count, &salt};
        tell("launch from", from, source);
        tell("         to", to, target);
        OK(cuLaunchKernel(scramble_, 1, 1, 1, 1, 1, 1, 0, stream_, parameters, nullptr));
        for (uint64_t i = 0; i < count; i++) {
            to.bytes[target.begin + i] = static_cast<uint8_t>(from.bytes[source.begin + i] * 31 + salt);
            to.known[target.begin + i] = from.known[source.begin + i];
        }
    }

    bool verify(Buffer& buffer, Range range) {
        std::vector<uint8_t> seen(range.length);
        tell("read", buffer, range);
        OK(cuStreamSynchronize(stream_));
        OK(cuMemcpyDtoH_v2(seen.data(), buffer.address + range.begin, range.length));
        for (size_t i = 0; i < range.length; i++) {
            size_t at = range.begin + i;
            if (buffer.known[at] == 0 || seen[i] == buffer.bytes[at]) continue;
            std::printf("byte %zu of %llx is %d, not %d\n", at,
                        static_cast<unsigned long long>(buffer.address), seen[i], buffer.bytes[at]);
            return false;
        }
        return true;
    }

    std::mt19937_64 random_;
    const Weights& weights_;
    const size_t unit_bytes_;
    CUfunction scramble_;
    CUstream stream_;
    std::vector<Buffer> buffers_;
    std::string story_;
    void* bounce_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    uint64_t first = std::strtoull(argv[1], nullptr, 10), count = std::strtoull(argv[2], nullptr, 10);
    Weights weights = argc > 3 ? Weights(argv[3]) : Weights();
    size_t unit_bytes = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1 << 20;
    if (unit_bytes < 4096) return 2;
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction scramble = nullptr;
    CUstream stream = nullptr;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoad(&module, std::getenv("TEST_KERNELS")));
    OK(cuModuleGetFunction(&scramble, module, "scramble"));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (uint64_t seed = first; seed < first + count; seed++) {
        Sequence sequence(seed, weights, unit_bytes, scramble, stream);
        if (sequence.run()) continue;
        std::printf("seed %llu\n%s", static_cast<unsigned long long>(seed), sequence.story().c_str());
        return 1;
    }
    std::printf("%llu sequences, seeds from %llu on: every byte as expected\n",
                static_cast<unsigned long long>(count), static_cast<unsigned long long>(first));
    return 0;
}
