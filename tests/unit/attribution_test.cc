#define BOOST_TEST_MODULE attribution
#include <boost/test/unit_test.hpp>
#include <mutex>
#include <random>
#include <thread>

#include "lib/base/bytes.h"
#include "lib/sample/attribution.h"
#include "lib/sample/hot.h"
#include "lib/sample/record.h"
#include "lib/sample/symbols.h"

#include <dlfcn.h>
#include <linux/perf_event.h>

namespace tierd {

namespace {

constexpr uint64_t kExtent = 64 * kKiB;

std::shared_ptr<const SampledFile> make_file(uint64_t number, uint64_t bytes) {
    auto file = std::make_shared<SampledFile>();
    file->number = number;
    file->name = "m" + std::to_string(number);
    file->layout = ExtentLayout::even(bytes, kExtent);
    return file;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_address_is_where_the_mapping_says_to_the_byte) {
    MappingHistory book;
    auto file = make_file(1, 10 * kExtent);
    book.add(7, {.address = 0x10000, .length_bytes = 4 * kExtent, .offset_bytes = 3 * kExtent, .file = file});
    auto map = book.publish(1);
    BOOST_TEST((map->find(7, 0xffff, 1).found == Found::other_address));
    BOOST_TEST(map->find(7, 0x10000, 1).extent == 3u);
    BOOST_TEST(map->find(7, 0x10000 + 4 * kExtent - 1, 1).extent == 6u);
    BOOST_TEST((map->find(7, 0x10000 + 4 * kExtent, 1).found == Found::other_address));
    BOOST_TEST((map->find(8, 0x10000, 1).found == Found::other_process));
    BOOST_TEST((map->find(7, UINT64_MAX, 1).found == Found::other_address));
    BOOST_TEST((map->find(7, 0, 1).found == Found::other_address));
}

BOOST_AUTO_TEST_CASE(a_record_goes_to_what_was_mapped_at_its_time) {
    MappingHistory book;
    book.add(7,
             {.address = 0x10000, .length_bytes = kExtent, .since_ns = 100, .file = make_file(1, kExtent)});
    book.add(7,
             {.address = 0x10000, .length_bytes = kExtent, .since_ns = 200, .file = make_file(2, kExtent)});
    book.remove(7, 0x10000, kExtent, 300);
    auto map = book.publish(400);
    BOOST_TEST((map->find(7, 0x10010, 99).found == Found::other_address));
    BOOST_TEST(map->find(7, 0x10010, 150).file->number == 1u);
    BOOST_TEST(map->find(7, 0x10010, 200).file->number == 2u);
    BOOST_TEST(map->find(7, 0x10010, 299).file->number == 2u);
    BOOST_TEST((map->find(7, 0x10010, 300).found == Found::other_address));
}

BOOST_AUTO_TEST_CASE(records_of_an_ended_process_are_told_apart_and_at_last_forgotten) {
    MappingHistory book;
    book.add(7, {.address = 0x10000, .length_bytes = kExtent, .file = make_file(1, kExtent)});
    book.end_process(7, 1000);
    auto map = book.publish(1001);
    BOOST_TEST((map->find(7, 0x10000, 999).found == Found::yes));
    BOOST_TEST((map->find(7, 0x10000, 1000).found == Found::ended_process));
    map = book.publish(1002 + MappingHistory::kKeepEndedNs);
    BOOST_TEST((map->find(7, 0x10000, 999).found == Found::other_process));
}

BOOST_AUTO_TEST_CASE(a_forked_child_has_its_parents_mappings_and_loses_them_alone) {
    MappingHistory book;
    book.add(7, {.address = 0x10000, .length_bytes = kExtent, .file = make_file(1, kExtent)});
    book.fork(7, 8, 50);
    book.remove(8, 0, UINT64_MAX, 60);
    auto map = book.publish(70);
    BOOST_TEST((map->find(8, 0x10000, 49).found == Found::other_address));
    BOOST_TEST((map->find(8, 0x10000, 55).found == Found::yes));
    BOOST_TEST((map->find(8, 0x10000, 65).found == Found::other_address));
    BOOST_TEST((map->find(7, 0x10000, 65).found == Found::yes));
}

// Beside a plain list of everything that was ever mapped, over random maps, unmaps and times.
BOOST_AUTO_TEST_CASE(any_sequence_of_maps_and_unmaps_attributes_as_a_plain_history_does) {
    std::mt19937 random(5);
    auto pick = [&](uint64_t below) { return std::uniform_int_distribution<uint64_t>(0, below - 1)(random); };
    struct Step {
        uint64_t page, pages, number, since;  // number 0: unmapped
    };
    std::vector<Step> history;
    MappingHistory book(true);
    std::vector<std::shared_ptr<const SampledFile>> files;
    for (uint64_t i = 0; i < 8; i++) files.push_back(make_file(i, 64 * kExtent));
    std::shared_ptr<const AddressMap> map;
    uint64_t now = 1;
    for (int round = 0; round < 400; round++, now += 1 + pick(5)) {
        Step step{pick(48), 1 + pick(16), pick(8), now};
        history.push_back(step);
        if (step.number == 0)
            book.remove(3, step.page * 4096, step.pages * 4096, now);
        else
            book.add(3, {.address = step.page * 4096,
                         .length_bytes = step.pages * 4096,
                         .since_ns = now,
                         .file = files[step.number]});
    }
    map = book.publish(now);
    for (int probe = 0; probe < 20'000; probe++) {
        uint64_t address = pick(70 * 4096), time = pick(now + 2);
        uint64_t expected = 0, begin = 0;
        for (const Step& step : history)
            if (step.since <= time && address / 4096 >= step.page &&
                address / 4096 < step.page + step.pages) {
                expected = step.number;
                begin = step.page * 4096;
            }
        Place place = map->find(3, address, time);
        BOOST_REQUIRE((place.found == Found::yes) == (expected != 0));
        if (expected == 0) continue;
        BOOST_REQUIRE(place.file->number == expected);
        BOOST_REQUIRE(place.offset_bytes == address - begin);
    }
}

BOOST_AUTO_TEST_CASE(readers_look_up_while_the_book_changes) {
    MappingHistory book;
    std::mutex mutex;  // guards shared
    std::shared_ptr<const AddressMap> shared;
    auto file = make_file(1, 64 * kExtent);
    book.add(1, {.address = 1 << 20, .length_bytes = kExtent, .file = file});
    shared = book.publish(0);
    std::atomic<bool> stop{false};
    std::thread reader([&] {
        uint64_t wrong = 0;
        while (!stop) {
            std::shared_ptr<const AddressMap> map;
            {
                std::lock_guard lock(mutex);
                map = shared;
            }
            // The first mapping never changes; the second comes and goes.
            wrong += map->find(1, (1 << 20) + 5, 1).found != Found::yes;
            Place other = map->find(1, (8 << 20) + 5, map->as_of_ns());
            wrong += other.found != Found::yes && other.found != Found::other_address;
        }
        BOOST_TEST(wrong == 0u);
    });
    for (uint64_t now = 1; now < 4000; now++) {
        if (now % 2 == 1)
            book.add(1, {.address = 8 << 20, .length_bytes = kExtent, .since_ns = now, .file = file});
        else
            book.remove(1, 8 << 20, kExtent, now);
        auto published = book.publish(now);
        std::lock_guard lock(mutex);
        shared = std::move(published);
    }
    stop = true;
    reader.join();
}

BOOST_AUTO_TEST_CASE(heat_of_extents_is_divided_among_tensors_layers_and_experts) {
    SampledFile file;
    file.name = "m";
    file.layout = ExtentLayout::even(4 * kExtent, kExtent);
    auto add = [&](const char* name, uint64_t begin, uint64_t end, uint16_t layer, uint16_t expert) {
        file.map.tensors.push_back({.name = name,
                                    .dtype = "F16",
                                    .shape = {},
                                    .begin_bytes = begin,
                                    .end_bytes = end,
                                    .layer = layer,
                                    .expert = expert});
    };
    add("a", 0, kExtent / 2, 0, TIERD_NO_EXPERT);
    add("b", kExtent / 2, 2 * kExtent, 0, 1);
    add("c", 2 * kExtent, 4 * kExtent, 1, 1);
    std::vector<ExtentHeat> heat = {{8, 4}, {2, 2}, {0, 0}, {1, 1}};
    auto tensors = hot_rows(file.name, file.layout, file.map, heat, HotBy::tensor);
    BOOST_REQUIRE(tensors.size() == 3u);
    BOOST_TEST(tensors[0].name == "b");
    BOOST_TEST(tensors[0].heat == 6.0);
    BOOST_TEST(tensors[1].name == "a");
    BOOST_TEST(tensors[1].heat == 4.0);
    auto layers = hot_rows(file.name, file.layout, file.map, heat, HotBy::layer);
    BOOST_REQUIRE(layers.size() == 2u);
    BOOST_TEST(layers[0].layer == 0);
    BOOST_TEST(layers[0].heat == 10.0);
    auto experts = hot_rows(file.name, file.layout, file.map, heat, HotBy::expert);
    BOOST_TEST(experts.size() == 3u);
    BOOST_TEST(hot_rows(file.name, file.layout, file.map, heat, HotBy::extent).front().name == "extent 0");
}

BOOST_AUTO_TEST_CASE(data_sources_are_read_as_the_kernel_writes_them) {
    auto source = [](auto set) {
        perf_mem_data_src value{};
        set(value);
        return data_source_of(value.val);
    };
    BOOST_TEST((source([](auto& v) { v.mem_lvl_num = PERF_MEM_LVLNUM_L3; }) == DataSource::cache));
    BOOST_TEST((source([](auto& v) { v.mem_lvl_num = PERF_MEM_LVLNUM_RAM; }) == DataSource::local_memory));
    BOOST_TEST((source([](auto& v) {
                    v.mem_lvl_num = PERF_MEM_LVLNUM_RAM;
                    v.mem_remote = 1;
                }) == DataSource::remote_memory));
    BOOST_TEST((source([](auto& v) { v.mem_lvl_num = 0x09; }) == DataSource::cxl));
    BOOST_TEST((source([](auto& v) { v.mem_lvl_num = PERF_MEM_LVLNUM_PMEM; }) == DataSource::persistent));
    BOOST_TEST((source([](auto& v) {
                    v.mem_lvl = PERF_MEM_LVL_LOC_RAM;
                    v.mem_lvl_num = PERF_MEM_LVLNUM_NA;
                }) == DataSource::local_memory));
    BOOST_TEST((source([](auto&) {}) == DataSource::unknown));
}

BOOST_AUTO_TEST_CASE(an_instruction_is_named_by_the_function_that_it_lies_in) {
    Dl_info info{};
    void* function = ::dlsym(RTLD_DEFAULT, "qsort");
    BOOST_REQUIRE(::dladdr(function, &info) != 0);
    Symbols symbols;
    // libc's text is linked at its offset in the file.
    uint64_t offset = reinterpret_cast<uint64_t>(function) - reinterpret_cast<uint64_t>(info.dli_fbase);
    BOOST_TEST(symbols.function_at(info.dli_fname, offset + 1).starts_with("qsort"));
    BOOST_TEST(symbols.function_at("/no/such/libfoo.so", 5) == "libfoo.so");
    BOOST_TEST(symbols.function_at("/etc/passwd", 5) == "passwd");
    BOOST_TEST(symbols.function_at(info.dli_fname, UINT64_MAX) ==
               std::string(info.dli_fname).substr(std::string(info.dli_fname).rfind('/') + 1));
}

}  // namespace tierd
