// guest_moves_test.cc - pages really change their node: moves between DRAM, HBM and CXL, with every byte checked.
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/migrate/move.h"
#include "lib/tier/tier_spec.h"
#include "tests/guest/machine.h"

using namespace tierd;

namespace {

constexpr int kDram = 0, kHbm = 1, kCxl = 2;

// Memory shared with whoever maps it, in a node of choice.
class SharedPages {
  public:
    SharedPages(uint64_t bytes, int node) : fd_(::memfd_create("guest-pages", MFD_CLOEXEC)), bytes_(bytes) {
        BOOST_REQUIRE(::ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
        mapping_ = map();
        PreferNode prefer(node);
        for (uint64_t i = 0; i < bytes / 8; i++) words()[i] = ~i;
    }
    Mapping map() const {
        return {::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0), bytes_};
    }
    uint64_t* words() const { return reinterpret_cast<uint64_t*>(mapping_.data()); }
    PageRange range() const { return {mapping_.data(), bytes_, 4096}; }
    bool right() const {
        for (uint64_t i = 0; i < bytes_ / 8; i++)
            if (words()[i] != ~i) return false;
        return true;
    }
    uint64_t bytes_on(int node) const { return find_pages(range()).value().bytes_on[node]; }

  private:
    Fd fd_;
    uint64_t bytes_;
    Mapping mapping_;
};

MoveResult carry_one(const SharedPages& pages, int from, int to) {
    MoveRequest request{.range = pages.range(), .to = {to}, .from = {from}};
    return migrate_pages(std::span(&request, 1), {}).front();
}

// Gives up a capability for good; a child process does.
void drop_capability(unsigned capability) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    ::syscall(SYS_capget, &header, data);
    data[0].effective &= ~(1u << capability);
    data[0].permitted &= ~(1u << capability);
    ::syscall(SYS_capset, &header, data);
}

// What `child` returns in a process of its own.
template <class Child>
int in_child(Child child) {
    pid_t pid = ::fork();
    if (pid == 0) ::_exit(child());
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

BOOST_AUTO_TEST_CASE(fresh_pages_come_from_the_preferred_node) {
    for (int node : {kDram, kHbm, kCxl}) {
        SharedPages pages(4 * kMiB, node);
        BOOST_TEST(pages.bytes_on(node) == 4 * kMiB);
    }
}

BOOST_AUTO_TEST_CASE(pages_mapped_twice_move_between_all_nodes_with_every_byte) {
    SharedPages pages(4 * kMiB, kDram);
    Mapping other = pages.map();
    BOOST_REQUIRE(map_pages({other.data(), other.size_bytes(), 4096}).has_value());
    int from = kDram;
    for (int to : {kHbm, kCxl, kDram, kCxl, kHbm, kDram}) {
        auto result = carry_one(pages, from, to);
        BOOST_TEST((result.outcome == MoveOutcome::moved), move_error_text(result.error));
        BOOST_TEST(result.moved_bytes == 4 * kMiB);
        BOOST_TEST(pages.bytes_on(to) == 4 * kMiB);
        BOOST_TEST(pages.right());
        from = to;
    }
}

BOOST_AUTO_TEST_CASE(without_the_privilege_pages_of_several_mappings_are_refused_with_the_reason) {
    int told = in_child([] {
        SharedPages pages(kMiB, kDram);
        Mapping other = pages.map();
        (void)map_pages({other.data(), other.size_bytes(), 4096});
        drop_capability(CAP_SYS_NICE);
        auto result = carry_one(pages, kDram, kCxl);
        bool kept = pages.bytes_on(kDram) == kMiB && pages.right();
        return result.outcome == MoveOutcome::refused && kept ? result.error : 255;
    });
    BOOST_TEST(told == EACCES);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_into_a_node_is_brought_back_whole) {
    constexpr int kLate = 3;
    guest::plug_memory("small", kLate, 128);
    {
        SharedPages filler(112 * kMiB, kLate);
        SharedPages pages(24 * kMiB, kDram);
        auto result = carry_one(pages, kDram, kLate);
        BOOST_TEST((result.outcome == MoveOutcome::refused || result.outcome == MoveOutcome::split));
        BOOST_TEST(result.error != 0);
        BOOST_TEST(pages.right());
        if (result.outcome == MoveOutcome::refused) BOOST_TEST(pages.bytes_on(kLate) == 0u);
    }
    guest::pull_memory("small", kLate);
}

BOOST_AUTO_TEST_CASE(tiers_are_named_from_the_firmwares_figures) {
    auto tiers = class_tiers(read_topology(), 256 * kMiB, 75, {});
    BOOST_REQUIRE(tiers.size() == 3u);
    BOOST_TEST(tiers[0].name == "hbm1");
    BOOST_TEST(tiers[1].name == "dram0");
    BOOST_TEST(tiers[2].name == "cxl2");
    for (const TierSpec& tier : tiers) BOOST_TEST((tier.source == FigureSource::firmware));
    guest::plug_memory("classed", 3, 128);
    tiers = class_tiers(read_topology(), 256 * kMiB, 75, {});
    BOOST_TEST(tiers.back().name == "cxl3");
    guest::pull_memory("classed", 3);
}
