#include "lib/engine/disk_registry.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

namespace tierd {

namespace {

constexpr auto kLookAgain = std::chrono::milliseconds(250);  // whether nobody waits for the disk now

}  // namespace

DiskRegistry::DiskRegistry(Parts parts) : parts_(std::move(parts)) {
    if (!parts_.measure) return;
    thread_ = std::thread([this] {
        name_this_thread("tierd-disks");
        run();
    });
}

DiskRegistry::~DiskRegistry() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void DiskRegistry::see(const Origin& origin) {
    if (!origin.local_disk) return;
    auto device = static_cast<dev_t>(origin.identity.device);
    auto disk = find_disk(device);
    if (!disk) return;
    std::string key = disk_key(*disk);
    bool fresh = false;
    {
        std::lock_guard lock(mutex_);
        keys_[device] = key;
        fresh = disks_.try_emplace(key, Known{.disk = *disk, .figures = {}}).second;
    }
    auto figures = fresh ? remembered(key) : std::nullopt;
    bool large = origin.direct && origin.identity.size_bytes >= kLeastProbedBytes;
    std::lock_guard lock(mutex_);
    Known& known = disks_.at(key);
    if (figures) known.figures = std::move(figures);
    bool wanted = parts_.measure && !known.figures && large && !known.file && known.attempts < kMostAttempts;
    if (!wanted) return;
    if (auto copy = duplicate(origin.fd)) known.file = std::move(*copy);
    wake_.notify_all();
}

std::vector<DiskStatus> DiskRegistry::list(const std::map<dev_t, uint64_t>& bytes) {
    std::lock_guard lock(mutex_);
    std::map<std::string, uint64_t> used;
    for (auto& [device, served] : bytes)
        if (auto key = keys_.find(device); key != keys_.end()) used[key->second] += served;
    std::vector<DiskStatus> list;
    for (auto& [key, served] : used) {
        const Known& known = disks_.at(key);
        DiskStatus& row = list.emplace_back();
        row.name = known.disk.name;
        row.kind = known.disk.kind;
        row.size_bytes = known.disk.size_bytes;
        row.file_bytes = served;
        if (!known.figures) continue;
        row.latency_ns = known.figures->latency_ns;
        row.measured_ns = known.figures->measured_ns;
        row.reads = known.figures->speeds;
    }
    return list;
}

std::optional<DiskFigures> DiskRegistry::remembered(const std::string& key) {
    if (!parts_.state) return std::nullopt;
    return run_on(*parts_.memory, [&] {
        auto found = parts_.state->load_disk(key);
        return found ? std::optional(std::move(*found)) : std::nullopt;
    });
}

void DiskRegistry::remember(const std::string& key, const DiskFigures& figures) {
    if (!parts_.state) return;
    parts_.memory->post([state = parts_.state, key, figures] {
        if (auto stored = state->store_disk(key, figures); !stored) spdlog::warn("{}", stored.error().text());
    });
}

void DiskRegistry::run() {
    std::unique_lock lock(mutex_);
    auto waiting = [this] {
        return std::ranges::find_if(disks_, [](auto& one) { return static_cast<bool>(one.second.file); });
    };
    while (!stopping_) {
        auto next = waiting();
        if (next == disks_.end()) {
            wake_.wait(lock);
        } else if (std::string key = next->first; !measure(lock, key) && !stopping_) {
            wake_.wait_for(lock, kLookAgain);
        }
    }
}

// False: somebody waits for the disk; later.
bool DiskRegistry::measure(std::unique_lock<std::mutex>& lock, const std::string& key) {
    Known& known = disks_.at(key);  // entries stay where they are, and this thread alone takes files away
    auto may_go_on = [this] {
        {
            std::lock_guard inner(mutex_);
            if (stopping_) return false;
        }
        return parts_.idle();
    };
    lock.unlock();
    bool idle = parts_.idle();
    auto figures = idle ? probe_disk(known.file, may_go_on) : std::nullopt;
    lock.lock();
    if (!idle) return false;
    known.attempts++;
    if (!figures && known.attempts < kMostAttempts) return false;
    known.file = Fd();
    if (!figures) return true;
    spdlog::info("disk {} reads {} bytes/s, {} ns a small read", known.disk.name,
                 figures->speeds.back().bytes_per_s, figures->latency_ns);
    known.figures = figures;
    lock.unlock();
    remember(key, *figures);
    lock.lock();
    return true;
}

}  // namespace tierd
