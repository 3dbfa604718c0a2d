#include "tests/simcuda/driver/managed.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "lib/base/bytes.h"

namespace simcuda {
namespace {

constexpr uint64_t kChunkBytes = 2 << 20;

uint64_t chunks_of(uint64_t bytes) {
    return (bytes + kChunkBytes - 1) / kChunkBytes;
}

}  // namespace

void Managed::add(uint64_t base, uint64_t bytes) {
    std::lock_guard lock(mutex_);
    Range range;
    range.bytes = bytes;
    range.places.resize(chunks_of(bytes), Place::home);
    range.brought.resize(chunks_of(bytes));
    range.read_mostly.resize(chunks_of(bytes));
    asked_bytes_ += bytes;
    counters.most_bytes = std::max<uint64_t>(counters.most_bytes, asked_bytes_);
    auto it = ranges_.emplace(base, std::move(range)).first;
    if (kernels_ > 0) protect(base, it->second, 0, it->second.places.size(), Place::home);
}

void Managed::remove(uint64_t base) {
    std::lock_guard lock(mutex_);
    auto it = ranges_.find(base);
    if (it == ranges_.end()) return;
    for (uint64_t i = 0; i < it->second.places.size(); ++i)
        if (it->second.places[i] != Place::home) gpu_.refund(chunk_bytes(it->second, i));
    asked_bytes_ -= it->second.bytes;
    ranges_.erase(it);
}

uint64_t Managed::prefetch(uint64_t address, uint64_t bytes, bool to_device, uint64_t start_ns) {
    std::lock_guard lock(mutex_);
    auto it = find(address);
    if (it == ranges_.end()) return start_ns;
    auto& [base, range] = *it;
    range.advice.last_prefetch = to_device ? 0 : -1;
    uint64_t end_ns = start_ns;
    uint64_t last = std::min(address + bytes, base + range.bytes);
    for (uint64_t i = (address - base) / kChunkBytes; base + i * kChunkBytes < last; ++i) {
        bool is_there = range.places[i] != Place::home;
        if (is_there == to_device) continue;
        if (!to_device)
            send_home(base, range, i, &end_ns);
        else if (!bring(base, range, i, &end_ns))
            break;
    }
    return end_ns;
}

uint64_t Managed::bytes_on_gpu(uint64_t base) const {
    std::lock_guard lock(mutex_);
    auto it = ranges_.find(base);
    if (it == ranges_.end()) return 0;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < it->second.places.size(); ++i)
        if (it->second.places[i] != Place::home) sum += chunk_bytes(it->second, i);
    return sum;
}

// What is in one place stays there until it is brought the next time.
void Managed::advise_read_mostly(uint64_t address, uint64_t bytes, bool read_mostly) {
    std::lock_guard lock(mutex_);
    auto it = find(address);
    if (it == ranges_.end()) return;
    auto& [base, range] = *it;
    uint64_t last = std::min(address + bytes, base + range.bytes);
    for (uint64_t i = (address - base) / kChunkBytes; base + i * kChunkBytes < last; ++i) {
        range.read_mostly[i] = read_mostly;
        if (!read_mostly && range.places[i] == Place::both) range.places[i] = Place::gpu;
        if (kernels_ > 0) protect(base, range, i, i + 1, range.places[i]);
    }
}

bool Managed::is_read_mostly(uint64_t address, uint64_t bytes) const {
    std::lock_guard lock(mutex_);
    auto it = find(address);
    if (it == ranges_.end()) return false;
    const auto& [base, range] = *it;
    uint64_t last = std::min(address + bytes, base + range.bytes);
    for (uint64_t i = (address - base) / kChunkBytes; base + i * kChunkBytes < last; ++i)
        if (!range.read_mostly[i]) return false;
    return true;
}

void Managed::begin_kernel() {
    std::lock_guard lock(mutex_);
    if (kernels_++ == 0) protect_all(true);
}

uint64_t Managed::end_kernel() {
    std::lock_guard lock(mutex_);
    if (--kernels_ == 0) protect_all(false);
    return touches_end_ns_;
}

bool Managed::touched(uint64_t address, bool by_kernel) {
    uint64_t end_ns = clock_.start_ns(0);
    {
        std::lock_guard lock(mutex_);
        auto it = find(address);
        if (it == ranges_.end()) return false;
        auto& [base, range] = *it;
        uint64_t index = (address - base) / kChunkBytes;
        Place& place = range.places[index];
        if (!by_kernel) {
            if (place == Place::both) send_home(base, range, index, &end_ns);
            protect(base, range, index, index + 1, Place::gpu);
        } else if (place == Place::both) {
            place = Place::gpu;  // the copy at home is stale now
            protect(base, range, index, index + 1, place);
        } else if (place == Place::home) {
            ++counters.faults;
            if (!bring(base, range, index, &end_ns)) protect(base, range, index, index + 1, Place::gpu);
        }
        touches_end_ns_ = std::max(touches_end_ns_, end_ns);
    }
    clock_.work_until(end_ns);
    return true;
}

std::map<uint64_t, Managed::Range>::iterator Managed::find(uint64_t address) {
    auto it = ranges_.upper_bound(address);
    if (it == ranges_.begin()) return ranges_.end();
    --it;
    return address < it->first + it->second.bytes ? it : ranges_.end();
}

std::map<uint64_t, Managed::Range>::const_iterator Managed::find(uint64_t address) const {
    return const_cast<Managed*>(this)->find(address);
}

uint64_t Managed::chunk_bytes(const Range& range, uint64_t index) const {
    return std::min(kChunkBytes, range.bytes - index * kChunkBytes);
}

// What was brought first goes. False: nothing is on the GPU.
bool Managed::send_oldest_home(uint64_t* end_ns) {
    uint64_t oldest = UINT64_MAX, base = 0, index = 0;
    for (const auto& [at, range] : ranges_) {
        for (uint64_t i = 0; i < range.places.size(); ++i) {
            if (range.places[i] == Place::home || range.brought[i] >= oldest) continue;
            oldest = range.brought[i];
            base = at;
            index = i;
        }
    }
    if (oldest == UINT64_MAX) return false;
    send_home(base, ranges_.at(base), index, end_ns);
    return true;
}

bool Managed::bring(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns) {
    uint64_t bytes = chunk_bytes(range, index);
    while (!gpu_.charge(bytes))
        if (!send_oldest_home(end_ns)) return false;
    range.places[index] = range.read_mostly[index] ? Place::both : Place::gpu;
    range.brought[index] = ++brought_;
    *end_ns = gpu_.take_link(Direction::to_device, *end_ns, bytes);
    counters.bytes_to_device += bytes;
    if (kernels_ > 0) protect(base, range, index, index + 1, range.places[index]);
    return true;
}

void Managed::send_home(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns) {
    uint64_t bytes = chunk_bytes(range, index);
    if (range.places[index] == Place::gpu) {
        *end_ns = gpu_.take_link(Direction::to_host, *end_ns, bytes);
        counters.bytes_to_host += bytes;
    }
    range.places[index] = Place::home;
    gpu_.refund(bytes);
    if (kernels_ > 0) protect(base, range, index, index + 1, Place::home);
}

// Opens or closes chunks [first, end) as befits a place while kernels run; Place::GPU is open.
void Managed::protect(uint64_t base, const Range& range, uint64_t first, uint64_t end, Place as) const {
    static const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    int protection = as == Place::home ? PROT_NONE : as == Place::both ? PROT_READ : PROT_READ | PROT_WRITE;
    uint64_t bytes =
        std::min(end * kChunkBytes, tierd::round_up(range.bytes, page_bytes)) - first * kChunkBytes;
    (void)::mprotect(reinterpret_cast<void*>(base + first * kChunkBytes), bytes, protection);
}

// Runs of chunks in the same place at once.
void Managed::protect_all(bool kernels_run) const {
    for (const auto& [base, range] : ranges_) {
        for (uint64_t first = 0, end = 0; first < range.places.size(); first = end) {
            Place as = range.places[first];
            while (end < range.places.size() && (!kernels_run || range.places[end] == as)) ++end;
            protect(base, range, first, end, kernels_run ? as : Place::gpu);
        }
    }
}

}  // namespace simcuda
