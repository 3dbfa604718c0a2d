#include "tests/integration/fake_tierd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/session/packet.h"
#include "tests/integration/listener.h"

namespace tierd::itest {

namespace {

constexpr uint64_t kExtentBytes = 2 * kMiB;
constexpr uint32_t kDeadlineMs = 500;

void require(bool done, const char* what) {
    if (!done) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

Mapping map_shared(const Fd& fd, uint64_t length_bytes) {
    void* address = ::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    require(address != MAP_FAILED, "map a memfd");
    return Mapping(address, length_bytes);
}

}  // namespace

FakeTierd::FakeTierd(std::string socket_path, std::string weights_path, const FakePlan& plan)
    : socket_path_(std::move(socket_path)), plan_(plan), listener_(listen_at(socket_path_)) {
    weights_ = Fd(::open(weights_path.c_str(), O_RDONLY | O_CLOEXEC));
    require(bool(weights_), "open the weight file");
    file_bytes_ = static_cast<uint64_t>(::lseek(weights_.get(), 0, SEEK_END));
    arena_bytes_ = round_up(file_bytes_, kExtentBytes);
    unsigned huge = plan.page_bytes > 4096 ? MFD_HUGETLB : 0;
    arena_ = Fd(::memfd_create("fake-arena", MFD_CLOEXEC | huge));
    require(::ftruncate(arena_.get(), static_cast<off_t>(arena_bytes_)) == 0, "size the arena");
    arena_map_ = map_shared(arena_, arena_bytes_);
    arena_readonly_ =
        Fd(::open(("/proc/self/fd/" + std::to_string(arena_.get())).c_str(), O_RDONLY | O_CLOEXEC));
    heartbeat_ = Fd(::memfd_create("fake-heartbeat", MFD_CLOEXEC));
    require(::ftruncate(heartbeat_.get(), 4096) == 0, "size the heartbeat");
    heartbeat_map_ = map_shared(heartbeat_, 4096);
    stop_event_ = *make_eventfd();
}

FakeTierd::~FakeTierd() {
    die();
}

void FakeTierd::start() {
    thread_ = std::thread([this] { run(); });
}

void FakeTierd::die() {
    stop_ = true;
    uint64_t one = 1;
    require(::write(stop_event_.get(), &one, sizeof one) == sizeof one, "stop");
    if (thread_.joinable()) thread_.join();
    close_all();
}

void FakeTierd::close_all() {
    std::lock_guard lock(mutex_);
    for (Fd* fd : {&listener_, &request_, &command_channel_, &userfaultfd_}) fd->reset();
    ::unlink(socket_path_.c_str());
}

void FakeTierd::hang() {
    hung_ = true;
}

Heard FakeTierd::heard() const {
    std::lock_guard lock(mutex_);
    return heard_;
}

uint32_t FakeTierd::command_fall_back(uint64_t file, uint64_t offset_bytes, uint64_t length_bytes) {
    std::lock_guard lock(mutex_);
    auto order = make_message<wire::FallBack>(wire::Kind::fall_back, next_order_++);
    order.file = file;
    order.offset_bytes = offset_bytes;
    order.length_bytes = length_bytes;
    require(send_message(command_channel_.get(), order).has_value(), "send an order");
    return order.header.sequence;
}

void FakeTierd::order_show_touch(uint64_t file, uint64_t offset_bytes, uint64_t length_bytes) {
    std::lock_guard lock(mutex_);
    auto order = make_message<wire::FallBack>(wire::Kind::arm_hint, 0);
    order.file = file;
    order.offset_bytes = offset_bytes;
    order.length_bytes = length_bytes;
    (void)send_message(command_channel_.get(), order);  // a client that is behind misses some
}

void FakeTierd::run() {
    auto* heartbeat = reinterpret_cast<wire::Heartbeat*>(heartbeat_map_.data());
    while (!stop_) {
        if (!hung_) __atomic_store_n(&heartbeat->beat_ns, monotonic_ns(), __ATOMIC_RELAXED);
        pollfd wait[] = {{stop_event_.get(), POLLIN, 0},
                         {request_ ? request_.get() : listener_.get(), POLLIN, 0},
                         {command_channel_.get(), POLLIN, 0},
                         {userfaultfd_.get(), POLLIN, 0}};
        ::poll(wait, hung_ ? 1 : 4, 20);
        if (hung_) continue;
        if (wait[2].revents != 0) {
            if (auto packet = receive_packet(command_channel_.get())) {
                std::lock_guard lock(mutex_);
                heard_.fallen_back.push_back(*packet->as<wire::FallenBack>());
            } else {
                // The client has ended the session; the next one may connect.
                std::lock_guard lock(mutex_);
                for (Fd* fd : {&request_, &command_channel_, &userfaultfd_}) fd->reset();
                continue;
            }
        }
        if (wait[1].revents != 0) request_ ? answer() : handshake();
        if (wait[3].revents != 0) serve_faults();
    }
}

template <class T>
void FakeTierd::reply(const wire::Header& request, T change, int fd) {
    auto message = make_message<wire::Reply>(wire::Kind::reply, request.sequence);
    message.header.magic = plan_.reply_magic;
    change(message);
    (void)send_message(request_.get(), message, std::span(&fd, fd < 0 ? 0 : 1));
}

void FakeTierd::handshake() {
    request_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    auto packet = receive_packet(request_.get());
    if (!packet || !plan_.answer_hello) return;
    int pair[2];
    require(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
    Fd theirs(pair[1]), device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    std::lock_guard lock(mutex_);
    command_channel_ = Fd(pair[0]);
    heard_.hellos++;
    auto message = make_message<wire::Reply>(wire::Kind::reply, packet->header().sequence);
    message.header.magic = plan_.reply_magic;
    message.deadline_ms = kDeadlineMs;
    message.flags = device ? wire::kReplyHasUserfaultfdDevice : wire::kReplyUserModeFaults;
    int fds[] = {heartbeat_.get(), theirs.get(), device.get()};
    (void)send_message(request_.get(), message, std::span(fds).first(device ? 3 : 2));
}

void FakeTierd::answer() {
    auto packet = receive_packet(request_.get());
    std::lock_guard lock(mutex_);
    if (!packet) {
        for (Fd* fd : {&request_, &command_channel_, &userfaultfd_}) fd->reset();
        return;
    }
    const wire::Header header = packet->header();
    auto accept = [](wire::Reply&) {};
    switch (header.kind) {
        case wire::Kind::attach:
            heard_.attaches.push_back(*packet->as<wire::Attach>());
            return reply(
                header,
                [this](wire::Reply& r) {
                    r.status = plan_.attach_status;
                    r.file = kFile;
                    r.size_bytes = file_bytes_;
                    r.extent_bytes = kExtentBytes;
                    r.page_bytes = plan_.page_bytes;
                    r.arena_bytes = arena_bytes_;
                },
                plan_.attach_status == 0 ? arena_readonly_.get() : -1);
        case wire::Kind::map:
            heard_.maps.push_back(*packet->as<wire::Map>());
            if (!packet->fds.empty()) userfaultfd_ = std::move(packet->fds[0]);
            if (plan_.answer_map) reply(header, accept);
            return;
        case wire::Kind::unmap:
            heard_.unmaps.push_back(*packet->as<wire::Unmap>());
            return reply(header, accept);
        default:
            heard_.will_need += packet->as<wire::Advise>()->advice == wire::Advice::will_need;
            return reply(header, accept);
    }
}

void FakeTierd::serve_faults() {
    uffd_msg messages[16];
    ssize_t got = ::read(userfaultfd_.get(), messages, sizeof messages);
    for (ssize_t i = 0; i < got / static_cast<ssize_t>(sizeof messages[0]); i++) {
        bool protect = (messages[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
        if (messages[i].event == UFFD_EVENT_PAGEFAULT && !protect) fill(messages[i].arg.pagefault.address);
    }
}

// Fills the extent and maps the one page that was touched, so that a test can tell touched pages from others.
void FakeTierd::fill(uint64_t address) {
    const Heard told = heard();
    auto region = std::find_if(told.maps.rbegin(), told.maps.rend(), [&](const wire::Map& map) {
        return map.address <= address && address < map.address + map.length_bytes;
    });
    if (region == told.maps.rend()) return;
    uint64_t touched = region->offset_bytes + (address - region->address);
    uint64_t offset = round_down(touched, kExtentBytes);
    {
        std::lock_guard lock(mutex_);
        heard_.touches.push_back(round_down(touched, plan_.page_bytes));
    }
    if (filled_.insert(offset).second)
        require(
            ::pread(weights_.get(), arena_map_.data() + offset, kExtentBytes, static_cast<off_t>(offset)) > 0,
            "fill");
    uffdio_continue request{};
    request.range = {round_down(address, plan_.page_bytes), plan_.page_bytes};
    if (::ioctl(userfaultfd_.get(), UFFDIO_CONTINUE, &request) != 0)
        ::ioctl(userfaultfd_.get(), UFFDIO_WAKE, &request.range);
}

}  // namespace tierd::itest
