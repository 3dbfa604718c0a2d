#include "lib/tier/disk_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/io/reader.h"

namespace tierd {

namespace {

constexpr uint64_t kBlockBytes = 512 * kKiB;
constexpr uint32_t kBlocksADepth = 32;  // 16 MiB
constexpr std::array<uint32_t, 3> kDepths = {1, 4, 16};
constexpr uint32_t kMostDepth = kDepths.back();
constexpr uint32_t kSmallReads = 32;
constexpr uint64_t kSmallBytes = 4 * kKiB;
constexpr uint32_t kBlocks = kBlocksADepth * kDepths.size();
static_assert(kBlocks * kBlockBytes + kSmallReads * kSmallBytes <= kDiskProbeBytes);
constexpr int kPatienceMs = 10'000;  // for one read: such a disk is not measured

// Offsets of blocks that have bytes on the disk, spread over the file; fewer than wanted where it has fewer.
std::vector<uint64_t> blocks_with_data(int fd, uint64_t size_bytes) {
    std::vector<uint64_t> blocks;
    uint64_t step = std::max(kBlockBytes, round_down(size_bytes / kBlocks, kBlockBytes));
    for (uint64_t at = 0; at + kBlockBytes <= size_bytes && blocks.size() < kBlocks; at += step) {
        off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
        off_t hole = ::lseek(fd, static_cast<off_t>(at), SEEK_HOLE);
        bool whole = data == static_cast<off_t>(at) && hole >= static_cast<off_t>(at + kBlockBytes);
        if (whole) blocks.push_back(at);
    }
    return blocks;
}

// One run of reads through a ring, so many at once.
class Run {
  public:
    Run(Reader& reader, int file, char* memory) : reader_(reader), file_(file), memory_(memory) {}

    // Reads `length_bytes` at each offset. Returns how long it took; empty when a read failed, or was not to be made.
    std::optional<uint64_t> read_all(std::span<const uint64_t> offsets, uint32_t length_bytes, uint32_t depth,
                                     const std::function<bool()>& may_go_on) {
        uint64_t begun_ns = monotonic_ns();
        size_t next = 0, ended = 0;
        bool well = true;
        while (ended < offsets.size()) {
            if (next % kMostDepth == 0 && !may_go_on()) well = false;
            if (!well && reader_.in_flight() == 0) return std::nullopt;
            while (well && next < offsets.size() && next - ended < depth) {
                char* into = memory_ + (next % kMostDepth) * kBlockBytes;
                well = reader_.read({.tag = next,
                                     .file = file_,
                                     .offset_bytes = offsets[next],
                                     .length_bytes = length_bytes,
                                     .into = into});
                next++;
            }
            reader_.flush();
            pollfd ready{reader_.poll_fd(), POLLIN, 0};
            if (::poll(&ready, 1, kPatienceMs) != 1) well = false;
            reader_.reap([&](const Completion& completion) {
                ended++;
                well = well && completion.result == static_cast<int64_t>(length_bytes);
            });
        }
        if (!well) return std::nullopt;
        return std::max<uint64_t>(monotonic_ns() - begun_ns, 1);
    }

  private:
    Reader& reader_;
    int file_;
    char* memory_;
};

}  // namespace

std::optional<DiskFigures> probe_disk(const Fd& fd, const std::function<bool()>& may_go_on) {
    Fd direct(::open(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    struct stat st{};
    if (!direct || ::fstat(direct.get(), &st) != 0) return std::nullopt;
    auto blocks = blocks_with_data(direct.get(), static_cast<uint64_t>(st.st_size));
    if (blocks.size() * kBlockBytes < kLeastProbedBytes) return std::nullopt;
    void* memory = ::mmap(nullptr, kMostDepth * kBlockBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return std::nullopt;
    Mapping buffers(memory, kMostDepth * kBlockBytes);
    auto reader = Reader::make(kMostDepth, 1);
    if (!reader) return std::nullopt;
    auto file = (*reader)->add_file(direct.get());
    if (!file) return std::nullopt;

    Run run(**reader, *file, buffers.data());
    DiskFigures figures;
    std::vector<uint64_t> small(blocks.begin(),
                                blocks.begin() + std::min<ptrdiff_t>(kSmallReads, std::ssize(blocks)));
    auto took_ns = run.read_all(small, kSmallBytes, 1, may_go_on);
    if (!took_ns) return std::nullopt;
    figures.latency_ns = *took_ns / small.size();
    for (size_t i = 0; i < kDepths.size(); i++) {
        // Each depth reads blocks of its own, as far as there are: what was just read may be in a cache of the disk's.
        std::vector<uint64_t> own;
        for (uint32_t block = 0; block < kBlocksADepth; block++)
            own.push_back(blocks[(block * kDepths.size() + i) % blocks.size()]);
        took_ns = run.read_all(own, kBlockBytes, kDepths[i], may_go_on);
        if (!took_ns) return std::nullopt;
        figures.speeds.push_back({kDepths[i], own.size() * kBlockBytes * kNsPerSecond / *took_ns});
    }
    figures.measured_ns = realtime_ns();
    return figures;
}

}  // namespace tierd
