#define BOOST_TEST_MODULE tier
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <climits>
#include <fstream>
#include <string>

#include "lib/base/bytes.h"
#include "lib/tier/disk.h"
#include "lib/tier/probe.h"
#include "lib/tier/sysfs.h"
#include "lib/tier/tier_spec.h"
#include "lib/tier/tier_table.h"
#include "tests/unit/sysfs_tree.h"

using namespace tierd;
using test::SysfsTree;

namespace {

std::optional<NodeFigures> no_probe(int) {
    BOOST_ERROR("nothing was to be measured");
    return std::nullopt;
}

// Measures ten times the latency and a tenth of the bandwidth in every node but 0 and 1.
std::optional<NodeFigures> far_probe(int node) {
    return node < 2 ? NodeFigures{90, 20 * kGiB} : NodeFigures{900, 2 * kGiB};
}

std::string names(const std::vector<TierSpec>& tiers) {
    std::string all;
    for (const TierSpec& tier : tiers) all += (all.empty() ? "" : " ") + tier.name;
    return all;
}

std::vector<TierSpec> classed(const SysfsTree& tree, const NodeProbe& probe = no_probe) {
    return class_tiers(read_topology(tree.root()), 512 * kMiB, 75, probe);
}

Result<std::vector<TierSpec>> merged(const SysfsTree& tree, std::vector<TierOverride> said) {
    return merge_tiers(classed(tree), said, read_topology(tree.root()));
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_node_is_one_tier_without_figures_and_nothing_is_measured) {
    SysfsTree flat("flat");
    auto tiers = classed(flat);
    BOOST_TEST(names(tiers) == "dram0");
    BOOST_TEST(tiers[0].capacity_bytes == 512 * kMiB);
    BOOST_TEST((tiers[0].source == FigureSource::unknown));
    auto node = read_topology(flat.root()).nodes.at(0);
    BOOST_TEST(node.total_bytes == 24653212 * kKiB);
    BOOST_TEST(node.huge_pages.at(0).page_bytes == 2 * kMiB);
    BOOST_TEST(node.huge_pages.at(0).free_pages == 100u);
}

BOOST_AUTO_TEST_CASE(tiers_are_named_and_ordered_by_the_firmwares_figures) {
    SysfsTree tree("hmat");
    auto tiers = classed(tree);
    BOOST_TEST(names(tiers) == "hbm1 dram0 cxl2");
    BOOST_TEST(tiers[0].latency_ns == 60u);
    BOOST_TEST(tiers[0].bandwidth_bytes_per_s == 400000 * kMiB);
    BOOST_TEST(tiers[0].capacity_bytes == 390996 * kKiB / 100 * 75);
    BOOST_TEST((tiers[2].source == FigureSource::firmware));
}

BOOST_AUTO_TEST_CASE(memory_that_is_plugged_in_is_a_tier_of_its_own_slower_than_its_like) {
    SysfsTree tree("hmat_plugged");
    BOOST_TEST(names(classed(tree)) == "hbm1 dram0 cxl2 cxl3");
}

BOOST_AUTO_TEST_CASE(a_node_without_figures_is_measured_beside_one_with_processors) {
    SysfsTree tree("cxl_silent");
    Topology topology = read_topology(tree.root());
    BOOST_TEST(topology.find(2)->is_cxl);
    BOOST_TEST(!topology.find(1)->is_cxl);
    auto tiers = classed(tree, far_probe);
    BOOST_TEST(names(tiers) == "dram0 cxl2");
    BOOST_TEST((tiers[0].nodes == std::vector{0, 1}));
    BOOST_TEST(tiers[1].latency_ns == 900u);
    BOOST_TEST((tiers[1].source == FigureSource::measured));
}

BOOST_AUTO_TEST_CASE(a_node_that_can_not_be_measured_is_classed_by_the_kernels_ranking) {
    SysfsTree tree("cxl_silent");
    auto tiers = classed(tree, [](int) -> std::optional<NodeFigures> { return std::nullopt; });
    BOOST_TEST(names(tiers) == "dram0 cxl2");
    BOOST_TEST((tiers[1].source == FigureSource::unknown));
}

BOOST_AUTO_TEST_CASE(figures_alone_tell_the_kinds_apart) {
    NodeFigures dram{100, 80 * kGiB};
    BOOST_TEST((kind_by_figures({110, 400 * kGiB}, dram) == TierKind::hbm));
    BOOST_TEST((kind_by_figures({120, 70 * kGiB}, dram) == TierKind::dram));
    BOOST_TEST((kind_by_figures({250, 70 * kGiB}, dram) == TierKind::cxl));
    BOOST_TEST((kind_by_figures({0, 30 * kGiB}, dram) == TierKind::cxl));
    BOOST_TEST((kind_by_figures({0, 0}, dram) == TierKind::dram));
}

BOOST_AUTO_TEST_CASE(the_administrator_has_the_last_word) {
    SysfsTree tree("hmat");
    auto tiers = merged(tree, {{.name = "cxl2", .capacity_bytes = 64 * kMiB, .latency_ns = 700},
                               {.name = "slow",
                                .kind = TierKind::cxl,
                                .capacity_bytes = kGiB,
                                .latency_ns = 900,
                                .bandwidth_bytes_per_s = kGiB}});
    BOOST_REQUIRE_MESSAGE(tiers.has_value(), (tiers ? "" : tiers.error().text()));
    BOOST_TEST(names(*tiers) == "hbm1 dram0 cxl2 slow");
    BOOST_TEST((*tiers)[2].capacity_bytes == 64 * kMiB);
    BOOST_TEST((*tiers)[2].latency_ns == 700u);
    BOOST_TEST((*tiers)[3].nodes.empty());
    BOOST_TEST((*tiers)[3].memory_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(wrong_declarations_are_refused_with_what_to_write) {
    SysfsTree tree("hmat");
    struct Wrong {
        int line;
        std::vector<TierOverride> said;
        std::string hint;
    };
    const Wrong kWrong[] = {
        {__LINE__, {{.name = "cxl2", .capacity_bytes = 4 * kGiB}}, "more than its 573 MiB"},
        {__LINE__, {{.name = "far", .kind = TierKind::cxl, .node = 7, .capacity_bytes = kMiB}}, "0, 1, 2"},
        {__LINE__,
         {{.name = "far", .kind = TierKind::cxl, .node = 2, .capacity_bytes = kMiB}},
         "belongs to tier cxl2"},
        {__LINE__, {{.name = "far", .capacity_bytes = kMiB}}, "kind and a capacity"},
        {__LINE__, {{.name = "cxl2", .node = 1}}, "is in node 2"},
        {__LINE__, {{.name = "cxl2", .latency_ns = 1}, {.name = "cxl2", .latency_ns = 2}}, "declared twice"},
    };
    for (const Wrong& row : kWrong) {
        auto refused = merged(tree, row.said);
        BOOST_TEST_CONTEXT("row at line " << row.line) {
            BOOST_REQUIRE(!refused.has_value());
            BOOST_TEST((refused.error().code == Code::bad_config));
            BOOST_TEST(refused.error().hint.find(row.hint) != std::string::npos, refused.error().hint);
        }
    }
}

BOOST_AUTO_TEST_CASE(broken_files_of_the_kernel_read_as_absent) {
    BOOST_TEST((parse_cpu_list("0-2,5") == std::vector{0, 1, 2, 5}));
    BOOST_TEST(parse_cpu_list("").empty());
    BOOST_TEST((parse_cpu_list("3,x") == std::vector{3}));
    BOOST_TEST((parse_cpu_list("4-") == std::vector<int>{}));
    BOOST_TEST(parse_cpu_list("0-2000000000").size() == 4096u);
    BOOST_TEST((parse_cpu_list("2147483647") == std::vector{2147483647}));
    SysfsTree tree("flat");
    tree.add("devices/system/node/has_memory|0-1,0");
    tree.add("devices/system/node/node1/meminfo|no numbers here");
    BOOST_TEST(read_topology(tree.root()).nodes.size() == 1u);
    BOOST_TEST(read_topology("/nonexistent").nodes.size() == 1u);
}

BOOST_AUTO_TEST_CASE(the_disk_beneath_partitions_and_volumes_is_found) {
    SysfsTree flat("flat");
    Disk sda{"sda", "rotational", 41943040ull * 512};
    BOOST_TEST(disk_key(sda) == "sda:21474836480");
    BOOST_TEST((find_disk(makedev(8, 2), flat.root()) == sda));
    BOOST_TEST((find_disk(makedev(253, 0), flat.root()) == sda));
    BOOST_TEST(!find_disk(makedev(0, 41), flat.root()).has_value());
    SysfsTree tree("hmat");
    BOOST_TEST(find_disk(makedev(259, 0), tree.root())->kind == "nvme");
    // A virtual disk and a file that is one; each is told from others by what it says of itself.
    tree.add("dev/block/254:1 -> ../../devices/virtio1/block/vda/vda1");
    tree.add("devices/virtio1/block/vda/vda1/partition|1");
    tree.add("devices/virtio1/block/vda/size|2048");
    tree.add("devices/virtio1/block/vda/queue/rotational|1");
    tree.add("devices/virtio1/block/vda/serial|weights-7");
    tree.add("dev/block/7:3 -> ../../devices/virtual/block/loop3");
    tree.add("devices/virtual/block/loop3/size|4096");
    tree.add("devices/virtual/block/loop3/loop/backing_file|/var/disk.img");
    auto virtio = find_disk(makedev(254, 1), tree.root()).value();
    BOOST_TEST(virtio.name == "vda");
    BOOST_TEST(virtio.kind == "virtio");
    BOOST_TEST(disk_key(virtio) == "virtio:weights-7:1048576");
    auto loop = find_disk(makedev(7, 3), tree.root()).value();
    BOOST_TEST(loop.kind == "loop");
    BOOST_TEST(disk_key(loop) == "loop:/var/disk.img:2097152");
}

// What the kernel's allocator has, all zones of all nodes together: proc(5), zoneinfo.
static uint64_t managed_bytes() {
    std::ifstream zones("/proc/zoneinfo");
    uint64_t pages = 0, more = 0;
    for (std::string word; zones >> word;)
        if (word == "managed" && zones >> more) pages += more;
    return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

BOOST_AUTO_TEST_CASE(this_machine_has_a_tier_of_the_memory_that_it_has) {
    Topology here = read_topology();
    BOOST_REQUIRE(!here.nodes.empty());
    uint64_t total = 0;
    for (const MemoryNode& node : here.nodes) total += node.total_bytes;
    uint64_t pages =
        static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    // sysconf() may count memory that the nodes' allocators do not have.
    BOOST_TEST(total <= pages);
    BOOST_TEST(total == managed_bytes());
    auto figures = probe_node(here.nodes[0].node);
    if (!figures) {
        BOOST_TEST_MESSAGE("node " << here.nodes[0].node << " can't be measured here");
        return;
    }
    BOOST_TEST_MESSAGE("measured: " << figures->latency_ns << " ns, "
                                    << format_bytes(figures->bandwidth_bytes_per_s) << "/s");
    BOOST_TEST(figures->latency_ns > 0u);
    BOOST_TEST(figures->bandwidth_bytes_per_s > 0u);
}

BOOST_AUTO_TEST_CASE(of_equally_fast_tiers_the_nearest_to_the_reader_is_filled_first_and_no_slower_one) {
    auto spec = [](const char* name, TierKind kind, std::vector<int> nodes, std::map<int, int> distances) {
        return TierSpec{.name = name,
                        .kind = kind,
                        .nodes = std::move(nodes),
                        .capacity_bytes = 16 * kMiB,
                        .latency_ns = 100,
                        .bandwidth_bytes_per_s = 100 * kGiB,
                        .distances = std::move(distances)};
    };
    TierTable tiers(2 * kMiB);
    uint8_t left = tiers.add(spec("hbm2", TierKind::hbm, {2}, {{0, 13}, {1, 23}}));
    uint8_t right = tiers.add(spec("hbm3", TierKind::hbm, {3}, {{0, 23}, {1, 13}}));
    uint8_t dram = tiers.add(spec("dram0", TierKind::dram, {0, 1}, {}));
    BOOST_TEST(tiers.has_equals());
    BOOST_TEST(tiers.nearest_like(left, 1) == right);
    BOOST_TEST(tiers.nearest_like(right, 0) == left);
    BOOST_TEST(tiers.nearest_like(left, 0) == left);
    BOOST_TEST(tiers.nearest_like(left, -1) == left);
    BOOST_TEST(tiers.nearest_like(right, 7) == right);  // nobody says how far that is
    BOOST_TEST(tiers.nearest_like(dram, 1) == dram);
    BOOST_TEST(tiers.grant(2 * kMiB) == left);
    for (int i = 0; i < 7; i++) BOOST_TEST(tiers.grant(2 * kMiB, 1) == right);
    for (int i = 0; i < 6; i++) BOOST_TEST(tiers.grant(2 * kMiB, 1) == left);  // the near one is full
    BOOST_TEST(tiers.grant(2 * kMiB, 1) == dram);
    tiers.close(right, true);
    BOOST_TEST(tiers.nearest_like(left, 1) == left);
    tiers.remove(left);
    BOOST_TEST(!tiers.has_equals());
}

BOOST_AUTO_TEST_CASE(tiers_know_how_far_they_are_from_processors) {
    SysfsTree tree("hmat");
    auto tiers = classed(tree);
    const TierSpec& hbm = tiers[0];
    BOOST_TEST(distance_from(hbm, hbm.nodes.front()) == 0);
    BOOST_TEST(distance_from(hbm, 0) == read_topology(tree.root()).find(hbm.nodes.front())->distances.at(0));
    BOOST_TEST(distance_from(hbm, 77) == INT_MAX);
}
