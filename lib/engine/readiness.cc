#include "lib/engine/readiness.h"

#include <sys/epoll.h>

namespace tierd {

Result<Readiness> Readiness::make() {
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return os_error("make an epoll descriptor");
    return Readiness(std::move(epoll));
}

Result<void> Readiness::add(int fd, uint64_t what) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = what;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return os_error("watch a descriptor");
    return {};
}

void Readiness::remove(int fd) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

std::span<const uint64_t> Readiness::wait(int timeout_ms) {
    std::array<epoll_event, std::tuple_size_v<decltype(ready_)>> events{};
    int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    size_t told = count > 0 ? static_cast<size_t>(count) : 0;
    for (size_t i = 0; i < told; i++) ready_[i] = events[i].data.u64;
    return std::span(ready_).first(told);
}

}  // namespace tierd
