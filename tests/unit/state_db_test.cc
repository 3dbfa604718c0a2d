// state_db_test.cc - what tierd remembers survives restarts, and losing it is no trouble.
#define BOOST_TEST_MODULE state_db
#include <boost/test/unit_test.hpp>

#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "lib/state/state_db.h"

using namespace tierd;
namespace fs = std::filesystem;

namespace {

// A directory of the test's own, removed with all that is in it.
struct Folder {
    Folder() {
        std::string name = (fs::temp_directory_path() / "tierd-state-XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()));
        path = name;
    }
    ~Folder() { fs::remove_all(path); }
    std::string file() const { return path / "state.sqlite"; }
    fs::path path;
};

TouchOrder some_order(uint32_t extents, uint64_t recorded_ns = 1'700'000'000'000'000'000) {
    TouchOrder order{2 << 20, {}, recorded_ns};
    for (uint32_t i = 0; i < extents; ++i) order.order.push_back((i * 7919u) % (extents + 1) + 0x01020000u);
    return order;
}

std::unique_ptr<StateDb> open_db(const std::string& path) {
    auto db = StateDb::open(path);
    BOOST_REQUIRE_MESSAGE(db.has_value(), (db ? std::string() : db.error().text()));
    return std::move(*db);
}

void check_equal(const Result<TouchOrder>& found, const TouchOrder& expected) {
    BOOST_REQUIRE(found.has_value());
    BOOST_TEST(found->layout == expected.layout);
    BOOST_TEST(found->recorded_ns == expected.recorded_ns);
    BOOST_TEST(found->order == expected.order, boost::test_tools::per_element());
}

bool is_not_found(const Result<TouchOrder>& found) {
    return !found && found.error().code == Code::not_found;
}

std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_order_that_was_stored_is_found_and_a_newer_one_replaces_it) {
    auto db = open_db(":memory:");
    BOOST_TEST(is_not_found(db->load_order("8:1:100:5")));
    BOOST_REQUIRE(db->store_order("8:1:100:5", some_order(1000)));
    check_equal(db->load_order("8:1:100:5"), some_order(1000));
    BOOST_REQUIRE(db->store_order("8:1:100:5", some_order(3, 42)));
    check_equal(db->load_order("8:1:100:5"), some_order(3, 42));
    BOOST_TEST(is_not_found(db->load_order("8:1:100:6")));
}

BOOST_AUTO_TEST_CASE(an_empty_order_and_a_key_with_quotes_are_kept_as_they_are) {
    auto db = open_db(":memory:");
    BOOST_REQUIRE(db->store_order("it's \"one\"; DROP TABLE", some_order(0)));
    check_equal(db->load_order("it's \"one\"; DROP TABLE"), some_order(0));
}

BOOST_AUTO_TEST_CASE(the_orders_are_there_after_a_restart) {
    Folder folder;
    open_db(folder.file())->store_order("a", some_order(50'000)).value();
    check_equal(open_db(folder.file())->load_order("a"), some_order(50'000));
    BOOST_TEST(!fs::exists(folder.file() + ".damaged"));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_no_database_is_put_aside_and_begun_anew) {
    Folder folder;
    write_file(folder.file(), std::string(8192, 'x'));
    auto db = open_db(folder.file());
    BOOST_TEST(is_not_found(db->load_order("a")));
    BOOST_REQUIRE(db->store_order("a", some_order(9)));
    check_equal(db->load_order("a"), some_order(9));
    BOOST_TEST(content(folder.file() + ".damaged") == std::string(8192, 'x'));
}

BOOST_AUTO_TEST_CASE(a_file_cut_anywhere_is_served_or_begun_anew_but_never_an_error) {
    Folder folder;
    {
        auto db = open_db(folder.file());
        for (int i = 0; i < 20; ++i)
            BOOST_REQUIRE(db->store_order("file " + std::to_string(i), some_order(3000)));
    }
    std::string whole = content(folder.file());
    for (size_t length :
         {size_t{0}, size_t{1}, size_t{50}, size_t{100}, size_t{4096}, whole.size() / 2, whole.size() - 1}) {
        write_file(folder.file(), whole.substr(0, length));
        auto db = open_db(folder.file());
        BOOST_TEST(is_not_found(db->load_order("file 19")), "cut at " << length);
        BOOST_REQUIRE(db->store_order("file 19", some_order(4)));
        check_equal(db->load_order("file 19"), some_order(4));
    }
}

BOOST_AUTO_TEST_CASE(damage_that_comes_while_it_is_open_costs_only_what_was_learned) {
    Folder folder;
    auto db = open_db(folder.file());
    for (int i = 0; i < 20; ++i)
        BOOST_REQUIRE(db->store_order("file " + std::to_string(i), some_order(3000)));
    // Another writer, so that the open database does not trust its cache; then bytes that no writer wrote.
    open_db(folder.file())->store_order("other", some_order(1)).value();
    std::string bytes = content(folder.file());
    write_file(folder.file(), bytes.substr(0, 4096) + std::string(bytes.size() - 4096, '\x5a'));
    BOOST_TEST(is_not_found(db->load_order("file 3")));
    BOOST_REQUIRE(db->store_order("file 3", some_order(5)));
    check_equal(db->load_order("file 3"), some_order(5));
    BOOST_TEST(fs::exists(folder.file() + ".damaged"));
}

BOOST_AUTO_TEST_CASE(a_journal_of_a_damaged_file_is_not_played_into_the_new_one) {
    Folder folder;
    write_file(folder.file(), std::string(8192, 'x'));
    write_file(folder.file() + "-wal", std::string(4096, 'y'));
    auto db = open_db(folder.file());
    BOOST_REQUIRE(db->store_order("a", some_order(9)));
    BOOST_TEST(!fs::exists(folder.file() + "-wal"));
}

BOOST_AUTO_TEST_CASE(a_file_of_another_version_is_put_aside) {
    Folder folder;
    open_db(folder.file())->store_order("a", some_order(9)).value();
    sqlite3* raw = nullptr;
    BOOST_REQUIRE(sqlite3_open(folder.file().c_str(), &raw) == SQLITE_OK);
    BOOST_REQUIRE(sqlite3_exec(raw, "PRAGMA user_version = 7", nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(raw);
    BOOST_TEST(is_not_found(open_db(folder.file())->load_order("a")));
    BOOST_TEST(fs::exists(folder.file() + ".damaged"));
}

BOOST_AUTO_TEST_CASE(a_directory_that_cannot_be_written_is_an_io_error_with_a_hint) {
    for (const char* path : {"/proc/state.sqlite", "/nonexistent-tierd/state.sqlite", "/"}) {
        auto db = StateDb::open(path);
        BOOST_REQUIRE(!db.has_value());
        BOOST_TEST((db.error().code == Code::io));
        BOOST_TEST(db.error().object == path);
        BOOST_TEST(db.error().text().find("state directory") != std::string::npos);
    }
}

BOOST_AUTO_TEST_CASE(an_order_without_an_extent_size_is_refused) {
    auto db = open_db(":memory:");
    TouchOrder order = some_order(2);
    order.layout = 0;
    auto stored = db->store_order("a", order);
    BOOST_REQUIRE(!stored.has_value());
    BOOST_TEST((stored.error().code == Code::bad_input));
}

BOOST_AUTO_TEST_CASE(of_more_than_4096_files_those_stored_longest_ago_are_dropped) {
    auto db = open_db(":memory:");
    for (int i = 0; i < 4096; ++i) BOOST_REQUIRE(db->store_order(std::to_string(i), some_order(1)));
    BOOST_REQUIRE(db->store_order("0", some_order(2)));  // stored again: the youngest now
    for (int i = 4096; i < 4099; ++i) BOOST_REQUIRE(db->store_order(std::to_string(i), some_order(1)));
    check_equal(db->load_order("0"), some_order(2));
    for (int gone : {1, 2, 3}) BOOST_TEST(is_not_found(db->load_order(std::to_string(gone))));
    for (int kept : {4, 5, 4095, 4098}) BOOST_TEST(db->load_order(std::to_string(kept)).has_value());
}

BOOST_AUTO_TEST_CASE(what_was_measured_of_a_disk_survives_a_restart_and_is_replaced_by_newer) {
    Folder folder;
    {
        auto db = open_db(folder.file());
        BOOST_TEST((db->load_disk("nvme:1").error().code == Code::not_found));
        BOOST_REQUIRE(db->store_disk("nvme:1", {5, 80'000, {{1, 1000}, {16, 9000}}}).has_value());
        BOOST_REQUIRE(db->store_disk("nvme:2", {6, 70'000, {{1, 2000}}}).has_value());
        BOOST_REQUIRE(db->store_disk("nvme:2", {7, 60'000, {{4, 3000}}}).has_value());
    }
    auto db = open_db(folder.file());
    DiskFigures one = db->load_disk("nvme:1").value(), two = db->load_disk("nvme:2").value();
    BOOST_TEST(one.measured_ns == 5u);
    BOOST_TEST(one.latency_ns == 80'000u);
    BOOST_TEST((one.speeds == std::vector<DiskSpeed>{{1, 1000}, {16, 9000}}));
    BOOST_TEST(two.measured_ns == 7u);
    BOOST_TEST((two.speeds == std::vector<DiskSpeed>{{4, 3000}}));
}

BOOST_AUTO_TEST_CASE(what_can_not_be_a_disk_s_figures_is_dropped_with_the_file) {
    Folder folder;
    {
        BOOST_REQUIRE(open_db(folder.file())->store_disk("sda", {1, 2, {{1, 3}}}).has_value());
    }
    sqlite3* raw = nullptr;
    BOOST_REQUIRE(sqlite3_open(folder.file().c_str(), &raw) == SQLITE_OK);
    BOOST_REQUIRE(sqlite3_exec(raw, "UPDATE disk SET speeds = '1:x'", nullptr, nullptr, nullptr) ==
                  SQLITE_OK);
    sqlite3_close(raw);
    auto db = open_db(folder.file());
    BOOST_TEST((db->load_disk("sda").error().code == Code::not_found));
    BOOST_TEST(fs::exists(folder.file() + ".damaged"));
    BOOST_TEST(db->store_disk("sda", {1, 2, {{1, 3}}}).has_value());
}
