// user_shares.h - how much of tierd's own memory each user's weight files take, and how much of it a user may.
//
// Owns:      the sum for each user. A file's charge is its owner's until the file is forgotten.
// Invariant: no sum but root's passes the limit: sparse files cost a user nothing, and tierd's book of them must not cost the
//            others anything.
// Callers:   any thread. Charges may outlive the UserShares.
// Fails:     no_space, with what the administrator can change.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "lib/base/result.h"

namespace tierd {

class UserShares {
    struct Sums {
        uint64_t limit_bytes = 0;
        std::mutex mutex;  // guards `of`
        std::map<uid_t, uint64_t> of;
    };

  public:
    explicit UserShares(uint64_t limit_bytes);

    // One file's. Given back when it goes.
    class Charge {
      public:
        Charge() = default;
        Charge(Charge&& other) noexcept
            : sums_(std::move(other.sums_)), uid_(other.uid_), bytes_(std::exchange(other.bytes_, 0)) {}
        Charge& operator=(Charge&& other) noexcept;
        ~Charge();

        // The file turned out to have so many extents and tensors. On error the charge stays as it was.
        Result<void> become(uint64_t extents, uint64_t tensors, const std::string& path);

      private:
        friend class UserShares;
        std::shared_ptr<Sums> sums_;
        uid_t uid_ = 0;
        uint64_t bytes_ = 0;
    };

    Result<Charge> charge(uid_t uid, uint64_t extents, uint64_t tensors, const std::string& path);

    // About what a file costs: descriptors and tables, a row and its companions an extent, a name and a range a tensor.
    static uint64_t cost_bytes(uint64_t extents, uint64_t tensors);

  private:
    std::shared_ptr<Sums> sums_;
};

}  // namespace tierd
