#include "tests/integration/slow_fs.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "tests/integration/pattern.h"

namespace tierd::itest {
namespace {

constexpr uint64_t kFile = 2;  // its number; the root's is 1
constexpr size_t kRequestBytes = 128 * 1024 + 4096;

[[noreturn]] void throw_errno(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

template <class T>
T body_of(const std::vector<char>& request) {
    T body{};
    const size_t bytes = std::min(sizeof body, request.size() - sizeof(fuse_in_header));
    std::memcpy(&body, request.data() + sizeof(fuse_in_header), bytes);
    return body;
}

fuse_attr attributes(uint64_t node, uint64_t bytes) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == kFile ? S_IFREG | 0444 : S_IFDIR | 0555;
    attr.nlink = 1;
    attr.size = node == kFile ? bytes : 0;
    attr.blksize = 4096;
    attr.mtime = attr.ctime = 1'000'000'000;
    return attr;
}

}  // namespace

std::string SlowFs::unusable() {
    if (::geteuid() != 0) return "mounting a file system needs root";
    return ::access("/dev/fuse", R_OK | W_OK) == 0 ? "" : "this kernel has no /dev/fuse";
}

SlowFs::SlowFs(const std::string& folder, uint64_t seed, uint64_t bytes)
    : folder_(folder), seed_(seed), bytes_(bytes), stop_(::eventfd(0, EFD_CLOEXEC)) {
    std::filesystem::create_directory(folder);
    device_ = Fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device_) throw_errno("/dev/fuse");
    const std::string options =
        "fd=" + std::to_string(device_.get()) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
    if (::mount("slow", folder.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0)
        throw_errno("mount");
    thread_ = std::thread([this] { run(); });
}

SlowFs::~SlowFs() {
    ::umount2(folder_.c_str(), MNT_DETACH);
    (void)::eventfd_write(stop_.get(), 1);
    thread_.join();
    device_.reset();  // the last descriptor: the kernel fails what still waits
}

void SlowFs::run() {
    std::vector<char> room(kRequestBytes);
    while (true) {
        pollfd waits[] = {{device_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
        if (waits[1].revents != 0) return;
        const ssize_t got = ::read(device_.get(), room.data(), room.size());
        if (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
        if (got < ssize_t(sizeof(fuse_in_header))) return;  // unmounted
        answer({room.begin(), room.begin() + got});
    }
}

void SlowFs::answer(const std::vector<char>& request) {
    fuse_in_header head;
    std::memcpy(&head, request.data(), sizeof head);
    switch (head.opcode) {
        case FUSE_INIT: {
            fuse_init_out out{};
            out.major = FUSE_KERNEL_VERSION;
            out.minor = 31;
            out.max_write = 128 * 1024;
            return reply(head.unique, 0, &out, sizeof out);
        }
        case FUSE_LOOKUP: {
            const std::string name(request.data() + sizeof head);
            if (name != "model.weights") return reply(head.unique, -ENOENT);
            fuse_entry_out out{};
            out.nodeid = kFile;
            out.attr = attributes(kFile, bytes_);
            return reply(head.unique, 0, &out, sizeof out);
        }
        case FUSE_GETATTR: {
            fuse_attr_out out{};
            out.attr = attributes(head.nodeid, bytes_);
            return reply(head.unique, 0, &out, sizeof out);
        }
        case FUSE_OPEN:
        case FUSE_OPENDIR: {
            fuse_open_out out{};
            return reply(head.unique, 0, &out, sizeof out);
        }
        case FUSE_READ: {
            const auto in = body_of<fuse_read_in>(request);
            if (!holds_reads_) return reply_read(head.unique, in.offset, in.size);
            held_++;
            return;
        }
        case FUSE_FLUSH:
            if (!holds_closes_) return reply(head.unique, 0);
            held_++;
            return;
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
            return reply(head.unique, 0);
        case FUSE_STATFS: {
            fuse_statfs_out out{};
            return reply(head.unique, 0, &out, sizeof out);
        }
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
            return;  // want no answer
        default:
            return reply(head.unique, -ENOSYS);
    }
}

void SlowFs::reply_read(uint64_t unique, uint64_t offset, uint32_t length) {
    const uint64_t from = std::min(offset, bytes_);
    std::vector<char> bytes(std::min<uint64_t>(length, bytes_ - from));
    fill_pattern(seed_, from, bytes.data(), bytes.size());
    reply(unique, 0, bytes.data(), bytes.size());
}

void SlowFs::reply(uint64_t unique, int error, const void* body, size_t bytes) {
    fuse_out_header head{};
    head.len = uint32_t(sizeof head + bytes);
    head.error = error;
    head.unique = unique;
    iovec parts[] = {{&head, sizeof head}, {const_cast<void*>(body), bytes}};
    (void)!::writev(device_.get(), parts, bytes > 0 ? 2 : 1);
}

}  // namespace tierd::itest
