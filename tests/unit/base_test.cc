#define BOOST_TEST_MODULE base
#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/base/result.h"

using namespace tierd;

BOOST_AUTO_TEST_CASE(sizes_are_read_as_people_write_them) {
    BOOST_TEST(parse_bytes("2GiB").value() == 2 * kGiB);
    BOOST_TEST(parse_bytes("512 mib").value() == 512 * kMiB);
    BOOST_TEST(parse_bytes("1.5g").value() == kGiB + 512 * kMiB);
    BOOST_TEST(parse_bytes("65536").value() == 65536u);
    BOOST_TEST(parse_bytes("0").value() == 0u);
}

BOOST_AUTO_TEST_CASE(what_is_no_size_is_refused_with_a_hint) {
    for (const char* text : {"", "GiB", "-1", "2 boxes", "1.2.3", ".", "99999999P", "0x10"}) {
        auto read = parse_bytes(text);
        BOOST_TEST(!read.has_value(), text);
        if (!read) BOOST_TEST(read.error().text().find("size") != std::string::npos);
    }
}

BOOST_AUTO_TEST_CASE(sizes_are_printed_with_three_digits_and_a_unit) {
    BOOST_TEST(format_bytes(17) == "17 B");
    BOOST_TEST(format_bytes(64 * kKiB) == "64.0 KiB");
    BOOST_TEST(format_bytes(kGiB + kGiB / 2) == "1.50 GiB");
}

BOOST_AUTO_TEST_CASE(an_error_says_what_was_tried_on_what_and_what_to_do) {
    Error error{Code::denied, EACCES, "open", "/models/a.gguf", "add tierd to group models"};
    BOOST_TEST(error.text() ==
               "cannot open /models/a.gguf: Permission denied (13); add tierd to group models");
}
