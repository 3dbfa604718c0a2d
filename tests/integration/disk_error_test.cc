// A disk that can't read a part of a weight file: a loop device whose backing file was cut in the middle. The
// reader gets what the kernel's mapping would give: SIGBUS on the very pages that are lost, never a zero, and
// the rest right.
#define BOOST_TEST_MODULE disk_error
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 64 * kMiB;

// An ext4 in a loop device, mounted beneath the work folder. No journal: it would lie in the part that is
// cut.
class FailingDisk {
  public:
    explicit FailingDisk(const WorkDir& dir)
        : image_(dir.file("disk.img")), mount_(dir.file("disk")), log_(dir.file("log")) {
        std::ofstream(image_).flush();
        std::filesystem::resize_file(image_, 96 * kMiB);
        std::filesystem::create_directory(mount_);
        const bool made = run_program({"/sbin/mkfs.ext4", "-q", "-O", "^has_journal", image_}, log_) == 0;
        mounted_ = made && run_program({"/bin/mount", "-o", "loop,noatime,errors=continue", image_, mount_},
                                       log_) == 0;
    }
    ~FailingDisk() {
        // The kernel lets go of an ended process's io_uring, and with it of the file, some time later.
        for (int i = 0; mounted_ && i < 200; i++) {
            if (run_program({"/bin/umount", mount_}, log_) == 0) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    FailingDisk(FailingDisk&&) = delete;
    bool mounted() const { return mounted_; }
    std::string file(const std::string& name) const { return mount_ + "/" + name; }
    // From now on, nothing behind the first `kept_bytes` of the device can be read.
    void cut(uint64_t kept_bytes) const {
        sync();
        std::filesystem::resize_file(image_, kept_bytes);
        std::ofstream("/proc/sys/vm/drop_caches") << "1";
    }

  private:
    std::string image_;
    std::string mount_;
    std::string log_;
    bool mounted_ = false;
};

struct Scene {
    Scene() {
        if (geteuid() != 0) skip_program("mounting a file system needs root");
        if (!disk.mounted()) skip_program("this machine mounts no loop device");
        make_file(path, 6, kFileBytes);
        disk.cut(50 * kMiB);
        ReaderProcess plain(dir, {});
        plain.call("map path=" + path);
        expected = plain.call("verify seed=6");
        BOOST_REQUIRE(expected["wrong"] == 0u);
        BOOST_REQUIRE(expected["sigbus"].get<uint64_t>() > 100u);
    }
    // The reader must see exactly the lost pages that the kernel's mapping has shown.
    void judge(const Json& told) const {
        BOOST_TEST(told["wrong"] == 0u, told.dump());
        BOOST_TEST(told["sigbus"] == expected["sigbus"]);
        BOOST_TEST(told["first_sigbus"] == expected["first_sigbus"]);
    }
    WorkDir dir;
    FailingDisk disk{dir};
    std::string path = disk.file("model.weights");
    Json expected;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_lost_part_is_sigbus_and_the_rest_right, Scene) {
    Daemon daemon(dir);
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    judge(reader.call("verify seed=6"));
    BOOST_TEST(daemon.counter("read_errors") > 0u);
    BOOST_TEST(counted(daemon.status()["fall_backs"], "unreadable") > 0u);
    judge(reader.call("verify seed=6 order=random threads=4"));
    ReaderProcess second(dir, {.socket = daemon.socket()});
    second.call("map path=" + path);
    judge(second.call("verify seed=6 order=stride block=65536 threads=4"));
    BOOST_TEST(daemon.running());
}
