// handles.h - what a CUstream, CUevent, CUcontext … of the simulated driver is: a number, never a pointer.
//
// Invariant: a number is given out once, so a stale handle is always known for one; the top byte tells the kind, so a
//            handle of another kind is too, and dereferencing one crashes.
// Callers:   any thread. find() gives null for what is not, or no longer, a handle; the object lives while somebody has it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace simcuda {

template <class Handle, class T>
class Handles {
  public:
    explicit Handles(uint8_t kind) : next_((uint64_t{kind} << 56) | 0x10) {}

    Handle add(std::shared_ptr<T> object) {
        std::lock_guard lock(mutex_);
        Handle handle = reinterpret_cast<Handle>(next_);
        next_ += 0x10;
        live_.emplace(handle, std::move(object));
        return handle;
    }
    std::shared_ptr<T> find(Handle handle) const {
        std::lock_guard lock(mutex_);
        auto it = live_.find(handle);
        return it == live_.end() ? nullptr : it->second;
    }
    std::shared_ptr<T> remove(Handle handle) {
        std::lock_guard lock(mutex_);
        auto it = live_.find(handle);
        if (it == live_.end()) return nullptr;
        std::shared_ptr<T> object = std::move(it->second);
        live_.erase(it);
        return object;
    }
    std::vector<std::pair<Handle, std::shared_ptr<T>>> all() const {
        std::lock_guard lock(mutex_);
        return {live_.begin(), live_.end()};
    }

  private:
    mutable std::mutex mutex_;
    std::unordered_map<Handle, std::shared_ptr<T>> live_;
    uint64_t next_;
};

}  // namespace simcuda
