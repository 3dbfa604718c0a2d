// lock_guard.h - holds a lock while it lives.
#pragma once

#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

class LockGuard {
  public:
    explicit LockGuard(Lock& lock) : lock_(lock) { lock_.lock(); }
    ~LockGuard() { lock_.unlock(); }
    LockGuard(const LockGuard&) = delete;
    LockGuard& operator=(const LockGuard&) = delete;

  private:
    Lock& lock_;
};

}  // namespace tierd::shim::cuda
