#include "lib/engine/user_shares.h"

#include <fmt/format.h>

#include "lib/base/bytes.h"

namespace tierd {

UserShares::UserShares(uint64_t limit_bytes) : sums_(std::make_shared<Sums>()) {
    sums_->limit_bytes = limit_bytes;
}

uint64_t UserShares::cost_bytes(uint64_t extents, uint64_t tensors) {
    constexpr uint64_t kFileBytes = 64 * kKiB, kExtentBytes = 160, kTensorBytes = 256;
    return kFileBytes + extents * kExtentBytes + tensors * kTensorBytes;
}

UserShares::Charge& UserShares::Charge::operator=(Charge&& other) noexcept {
    std::swap(sums_, other.sums_);
    std::swap(uid_, other.uid_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

UserShares::Charge::~Charge() {
    if (!sums_ || bytes_ == 0) return;
    std::lock_guard lock(sums_->mutex);
    auto mine = sums_->of.find(uid_);
    mine->second -= bytes_;
    if (mine->second == 0) sums_->of.erase(mine);
}

Result<void> UserShares::Charge::become(uint64_t extents, uint64_t tensors, const std::string& path) {
    uint64_t bytes = cost_bytes(extents, tensors);
    std::lock_guard lock(sums_->mutex);
    uint64_t others = sums_->of[uid_] - bytes_;
    if (uid_ != 0 && others + bytes > sums_->limit_bytes) {
        if (others + bytes_ == 0) sums_->of.erase(uid_);
        return fail(
            Code::no_space, "keep book of", path,
            fmt::format("user {} has {} of {} already and this file needs {}: raise [session] user_metadata",
                        uid_, format_bytes(others), format_bytes(sums_->limit_bytes), format_bytes(bytes)));
    }
    sums_->of[uid_] = others + bytes;
    bytes_ = bytes;
    return {};
}

Result<UserShares::Charge> UserShares::charge(uid_t uid, uint64_t extents, uint64_t tensors,
                                              const std::string& path) {
    Charge charge;
    charge.sums_ = sums_;
    charge.uid_ = uid;
    if (auto fits = charge.become(extents, tensors, path); !fits) return std::unexpected(fits.error());
    return charge;
}

}  // namespace tierd
