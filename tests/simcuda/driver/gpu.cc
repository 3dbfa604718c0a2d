#include "tests/simcuda/driver/gpu.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace simcuda {

using tierd::Code;
using tierd::Result;

namespace {
constexpr uint64_t kMagic = 0x31647261636d6973;  // "simcard1"
constexpr unsigned kSlots = 256;
constexpr off_t kLedgerByte = 0;      // locked while the ledger is read or changed
constexpr off_t kFirstSlotByte = 16;  // locked by the process that has the slot, for its life

// fcntl(2) locks of the process kind: a child of fork() does not inherit them, and death releases them.
int set_lock(int fd, int command, short type, off_t byte) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    int result;
    do result = ::fcntl(fd, command, &lock);
    while (result < 0 && errno == EINTR);
    return result;
}

bool somebody_has(int fd, off_t byte) {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return ::fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
}  // namespace

// Plain fields are read and written under Lock alone.
struct Gpu::Ledger {
    uint64_t magic;
    uint64_t total_bytes;
    std::atomic<uint64_t> link_free_at_ns[2];  // CLOCK_MONOTONIC
    struct Slot {
        uint64_t taken;
        uint64_t held_bytes;
    } slots[kSlots];
};

class Gpu::Lock {
  public:
    explicit Lock(const Gpu& gpu) : threads_(gpu.mutex_), fd_(gpu.file_.get()) {
        set_lock(fd_, F_SETLKW, F_WRLCK, kLedgerByte);
    }
    ~Lock() { set_lock(fd_, F_SETLK, F_UNLCK, kLedgerByte); }
    Lock(const Lock&) = delete;

  private:
    std::lock_guard<std::mutex> threads_;
    int fd_;
};

Result<std::unique_ptr<Gpu>> Gpu::open(const Settings& settings) {
    std::unique_ptr<Gpu> gpu(new Gpu);
    if (settings.gpu.empty()) {
        gpu->file_ = tierd::Fd(::memfd_create("simcuda-gpu", MFD_CLOEXEC));
        if (!gpu->file_) return tierd::os_error("memfd_create");
    } else {
        Result<tierd::Fd> file = tierd::open_file(settings.gpu, O_RDWR | O_CREAT, 0666);
        if (!file) return std::unexpected(file.error());
        gpu->file_ = std::move(*file);
    }
    gpu->pages_ = tierd::Fd(::memfd_create("simcuda-memory", MFD_CLOEXEC));
    if (!gpu->pages_) return tierd::os_error("memfd_create");
    // As long as a file may be: pages exist only where something was written, and no offset is ever used twice.
    if (::ftruncate(gpu->pages_.get(), int64_t{1} << 60) < 0)
        return tierd::os_error("ftruncate device memory");
    gpu->copy_bytes_per_s_ = settings.copy_bytes_per_s;
    if (Result<void> done = gpu->adopt(settings); !done) return std::unexpected(done.error());
    if (Result<void> done = gpu->take_slot(); !done) return std::unexpected(done.error());
    return gpu;
}

Result<void> Gpu::adopt(const Settings& settings) {
    Lock lock(*this);
    struct stat info = {};
    if (::fstat(file_.get(), &info) < 0) return tierd::os_error("stat", settings.gpu);
    bool fresh = info.st_size == 0;
    if (fresh && ::ftruncate(file_.get(), sizeof(Ledger)) < 0)
        return tierd::os_error("ftruncate", settings.gpu);
    if (!fresh && info.st_size != sizeof(Ledger))
        return tierd::fail(Code::bad_config, "use SIMCUDA_GPU", settings.gpu,
                           "this file is not a simulated GPU");
    void* at = ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    if (at == MAP_FAILED) return tierd::os_error("mmap", settings.gpu);
    mapping_ = tierd::Mapping(at, sizeof(Ledger));
    ledger_ = static_cast<Ledger*>(at);
    if (fresh) {
        ledger_->magic = kMagic;
        ledger_->total_bytes = settings.memory_bytes;
    }
    if (ledger_->magic != kMagic)
        return tierd::fail(Code::bad_config, "use SIMCUDA_GPU", settings.gpu,
                           "this file is not a simulated GPU");
    if (settings.memory_given && ledger_->total_bytes != settings.memory_bytes)
        return tierd::fail(Code::bad_config, "use SIMCUDA_MEMORY", tierd::format_bytes(settings.memory_bytes),
                           "the GPU has " + tierd::format_bytes(ledger_->total_bytes));
    link_free_at_ns_ = settings.virtual_time ? own_link_ : ledger_->link_free_at_ns;
    return {};
}

Result<void> Gpu::take_slot() {
    Lock lock(*this);
    for (unsigned i = 0; i < kSlots; ++i) {
        if (set_lock(file_.get(), F_SETLK, F_WRLCK, kFirstSlotByte + i) < 0)
            continue;  // somebody lives there
        slot_ = i;
        ledger_->slots[i] = {1, 0};
        return {};
    }
    return tierd::fail(Code::no_space, "use SIMCUDA_GPU", {}, "256 processes use this GPU already");
}

void Gpu::clear_the_dead() {
    for (unsigned i = 0; i < kSlots; ++i) {
        Ledger::Slot& slot = ledger_->slots[i];
        if (slot.taken && i != slot_ && !somebody_has(file_.get(), kFirstSlotByte + i)) slot = {0, 0};
    }
}

uint64_t Gpu::used_bytes() const {
    uint64_t sum = 0;
    for (const Ledger::Slot& slot : ledger_->slots) sum += slot.held_bytes;
    return sum;
}

bool Gpu::charge(uint64_t bytes) {
    Lock lock(*this);
    if (bytes > ledger_->total_bytes) return false;
    if (used_bytes() > ledger_->total_bytes - bytes) {
        clear_the_dead();
        if (used_bytes() > ledger_->total_bytes - bytes) return false;
    }
    ledger_->slots[slot_].held_bytes += bytes;
    peak_bytes_ = std::max<uint64_t>(peak_bytes_, ledger_->slots[slot_].held_bytes);
    return true;
}

void Gpu::refund(uint64_t bytes) {
    Lock lock(*this);
    ledger_->slots[slot_].held_bytes -= bytes;
}

uint64_t Gpu::total_bytes() const {
    return ledger_->total_bytes;  // constant since the GPU was made
}

uint64_t Gpu::free_bytes() {
    Lock lock(*this);
    clear_the_dead();
    return ledger_->total_bytes - used_bytes();
}

uint64_t Gpu::held_bytes() const {
    Lock lock(*this);
    return ledger_->slots[slot_].held_bytes;
}

uint64_t Gpu::peak_bytes() const {
    return peak_bytes_;
}

uint64_t Gpu::take_link(Direction direction, uint64_t start_ns, uint64_t bytes) {
    if (copy_bytes_per_s_ == 0) return start_ns;
    auto cost_ns =
        static_cast<uint64_t>(static_cast<double>(bytes) * static_cast<double>(tierd::kNsPerSecond) /
                              static_cast<double>(copy_bytes_per_s_));
    std::atomic<uint64_t>& free_at = link_free_at_ns_[static_cast<int>(direction)];
    uint64_t was = free_at.load();
    uint64_t end;
    do end = std::max(was, start_ns) + cost_ns;
    while (!free_at.compare_exchange_weak(was, end));
    return end;
}

void Gpu::drop_pages(uint64_t offset, uint64_t bytes) {
    // A failure keeps host memory that nobody can reach: the ledger, which is what callers see, is right either way.
    (void)::fallocate(pages_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                      static_cast<off_t>(bytes));
}

}  // namespace simcuda
