// What tierd changes of the system's settings is put back, however it ends.
#define BOOST_TEST_MODULE system_settings
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <fstream>

#include "lib/arena/changed_settings.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

BOOST_AUTO_TEST_CASE(a_killed_tierd_leaves_the_pool_of_huge_pages_as_it_was) {
    const char* kLimit = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";
    auto limit = [&] {
        uint64_t pages = 0;
        std::ifstream(kLimit) >> pages;
        return pages;
    };
    if (access(kLimit, W_OK) != 0) skip_program("the limit of huge pages can't be set here");
    const WorkDir dir;
    const uint64_t before = limit();
    const DaemonPlan huge{.budget = std::to_string((before + 100) * 2) + "MiB",
                          .options = {"--huge-pages", "hugetlb"}};
    {
        Daemon daemon(dir, huge);
        BOOST_TEST(limit() == before + 100);
        daemon.send(SIGKILL);
        daemon.wait();
        BOOST_TEST(limit() == before + 100);
    }
    {
        Daemon daemon(dir);  // of any kind
        BOOST_TEST(limit() == before);
    }
    {
        Daemon daemon(dir, huge);
        BOOST_TEST(limit() == before + 100);
        BOOST_TEST(daemon.stop() == 0);
        BOOST_TEST(limit() == before);
    }
}

BOOST_AUTO_TEST_CASE(a_tierd_that_ends_or_is_killed_leaves_the_kernels_folios_as_they_were) {
    const std::string kSetting = "/sys/kernel/mm/transparent_hugepage/hugepages-256kB/shmem_enabled";
    if (access(kSetting.c_str(), W_OK) != 0) skip_program("the kernel's folios can't be set here");
    // Whatever it is, a killed tierd of another test may have left it so.
    std::ofstream(kSetting) << "never" << std::endl;
    const WorkDir dir;
    {
        Daemon daemon(dir);
        BOOST_TEST(ChangedSettings::read(kSetting) == "advise");
        BOOST_TEST(daemon.stop() == 0);
        BOOST_TEST(ChangedSettings::read(kSetting) == "never");
    }
    {
        Daemon daemon(dir);
        daemon.send(SIGKILL);
        daemon.wait();
        BOOST_TEST(ChangedSettings::read(kSetting) == "advise");
    }
    Daemon daemon(dir, {.options = {"--huge-pages", "off"}});
    BOOST_TEST(ChangedSettings::read(kSetting) == "never");
}
