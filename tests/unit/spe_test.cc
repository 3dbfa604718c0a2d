// Arm's SPE, without an Arm: streams of packets as the architecture describes them, in rings as the kernel fills them.
#define BOOST_TEST_MODULE spe
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <random>

#include "lib/sample/spe_source.h"
#include "lib/sample/spe_stream.h"

namespace tierd {

namespace {

using Bytes = std::vector<std::byte>;

void put(Bytes& out, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}
// A header and what follows it.
void packet(Bytes& out, uint8_t header, uint64_t payload, size_t bytes) {
    put(out, header, 1);
    put(out, payload, bytes);
}

struct Plan {
    uint64_t pc = 0x40'1234;
    uint64_t address = 0x7f12'3456'7040;
    uint64_t timestamp = 1000;
    uint64_t events = 0x0216;  // retired, L1 access, TLB access, last-level miss
    uint8_t source = 14;
    bool store = false;
};

// A record as Neoverse writes it.
void record(Bytes& out, const Plan& plan) {
    packet(out, 0xb0, plan.pc | uint64_t{0xc0} << 56, 8);  // not secure, level 0: no part of the address
    packet(out, 0x65, 4242, 4);                            // context
    packet(out, 0x49, plan.store ? 1 : 0, 1);              // load or store
    packet(out, 0x52, plan.events, 2);
    packet(out, 0x99, 4, 2);                                    // issue
    packet(out, 0x98, 250, 2);                                  // total
    packet(out, 0xb2, plan.address | uint64_t{0x5a} << 56, 8);  // a tag
    packet(out, 0x9a, 1, 2);                                    // translation
    if (!plan.store) packet(out, 0x43, plan.source, 1);
    packet(out, 0xb3, 0x8000'0000 | uint64_t{1} << 63, 8);
    packet(out, 0x71, plan.timestamp, 8);
}

std::vector<SpeRecord> decoded(SpeDecoder& decoder, std::span<const std::byte> bytes) {
    std::vector<SpeRecord> records;
    decoder.decode(bytes, [&](const SpeRecord& one) { records.push_back(one); });
    return records;
}

DataSource source_of(const SpeRecord& one, bool neoverse = true) {
    return data_source_of(perf_data_source(one, neoverse));
}

// The control page and both rings of one processor, as the kernel fills them.
class Rings {
  public:
    explicit Rings(size_t aux_bytes = 4096) : data_(8192), aux_(aux_bytes) {
        page_.cap_user_time = 1;
        page_.time_mult = 40;  // a counter of 25 MHz: a tick is 40 ns
        page_.time_shift = 0;
    }
    void write_aux(std::span<const std::byte> bytes) {
        for (std::byte b : bytes) aux_[page_.aux_head++ % aux_.size()] = b;
    }
    void on_piece(uint64_t offset, uint64_t bytes, uint64_t flags, uint32_t tid, uint64_t time_ns) {
        Bytes body;
        for (uint64_t word : {offset, bytes, flags}) put(body, word, 8);
        add(PERF_RECORD_AUX, body, tid, time_ns);
    }
    void on_switch(uint32_t tid, uint64_t time_ns) {
        Bytes body;
        put(body, 0, 8);  // the other thread
        add(PERF_RECORD_SWITCH_CPU_WIDE, body, tid, time_ns);
    }
    void on_lost() {
        Bytes body;
        put(body, 1, 8);
        put(body, 3, 8);
        add(PERF_RECORD_LOST, body, 0, 0);
    }
    // A whole piece with these records, the last of which was made at `time_ns`.
    void piece(std::span<const Plan> plans, uint32_t tid, uint64_t time_ns, uint64_t flags = 0) {
        Bytes bytes;
        for (const Plan& plan : plans) record(bytes, plan);
        uint64_t offset = page_.aux_head;
        write_aux(bytes);
        on_piece(offset, bytes.size(), flags, tid, time_ns);
    }
    std::vector<AccessRecord> drain() {
        std::vector<AccessRecord> records;
        stream.drain(100, [&](const AccessRecord& one) { records.push_back(one); });
        return records;
    }
    void add(uint32_t type, const Bytes& body, uint32_t tid, uint64_t time_ns) {
        Bytes out;
        put(out, type, 4);
        put(out, 0, 2);
        put(out, 8 + body.size() + 24, 2);
        out.insert(out.end(), body.begin(), body.end());
        put(out, tid == 0 ? 0 : 4000, 4);
        put(out, tid, 4);
        put(out, time_ns, 8);
        put(out, 3, 8);
        for (std::byte b : out) data_[page_.data_head++ % data_.size()] = b;
    }
    perf_event_mmap_page& page() { return page_; }

  private:
    perf_event_mmap_page page_{};
    Bytes data_, aux_;

  public:
    SpeStream stream{&page_, data_, aux_, 3, true};
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_load_is_read_with_all_that_it_tells) {
    Bytes bytes;
    put(bytes, 0, 5);  // padding
    record(bytes, {});
    SpeDecoder decoder;
    auto records = decoded(decoder, bytes);
    BOOST_REQUIRE(records.size() == 1u);
    const SpeRecord& one = records[0];
    BOOST_TEST(one.instruction == 0x40'1234u);
    BOOST_TEST(one.address == 0x7f12'3456'7040u);
    BOOST_TEST(one.physical_address == 0x8000'0000u);
    BOOST_TEST(one.timestamp == 1000u);
    BOOST_TEST(one.total_cycles == 250u);
    BOOST_TEST(one.issue_cycles == 4u);
    BOOST_TEST(one.translation_cycles == 1u);
    BOOST_TEST(one.context == 4242u);
    BOOST_TEST((one.is_load && !one.is_store));
    BOOST_TEST((source_of(one) == DataSource::local_memory));
    BOOST_TEST(is_load(perf_data_source(one, true)));
    BOOST_TEST(decoder.damaged() == 0u);
}

BOOST_AUTO_TEST_CASE(records_end_with_an_end_or_a_timestamp_and_may_hold_what_is_not_of_use) {
    Bytes bytes;
    packet(bytes, 0xb2, 0x1000, 8);
    packet(bytes, 0x49, 1, 1);
    packet(bytes, 0x4a, 3, 1);       // a branch's operation has no data
    packet(bytes, 0xb1, 0x2000, 8);  // a branch's target
    packet(bytes, 0x62, 5, 4);       // events of four bytes
    put(bytes, 0x0020, 2);           // alignment
    put(bytes, 0, 3);
    put(bytes, 0x01, 1);  // end
    packet(bytes, 0xb2, uint64_t{0xff80'0000'0000'1000}, 8);
    packet(bytes, 0x71, 7, 8);
    put(bytes, 0x01, 1);  // an end of nothing
    SpeDecoder decoder;
    auto records = decoded(decoder, bytes);
    BOOST_REQUIRE(records.size() == 2u);
    BOOST_TEST(records[0].address == 0x1000u);
    BOOST_TEST(records[0].events == 5u);
    BOOST_TEST(records[1].address == 0xff80'0000'0000'1000u);  // the kernel's: not cut
    BOOST_TEST(decoder.damaged() == 0u);
}

BOOST_AUTO_TEST_CASE(records_that_go_on_in_the_next_piece_are_put_together_wherever_they_are_cut) {
    Bytes bytes;
    record(bytes, {.timestamp = 1});
    record(bytes, {.address = 0x2000, .timestamp = 2, .store = true});
    for (size_t cut = 0; cut <= bytes.size(); cut++) {
        SpeDecoder decoder;
        std::span whole(bytes);
        auto records = decoded(decoder, whole.first(cut));
        auto more = decoded(decoder, whole.subspan(cut));
        records.insert(records.end(), more.begin(), more.end());
        BOOST_REQUIRE(records.size() == 2u);
        BOOST_TEST(records[0].timestamp == 1u);
        BOOST_TEST((records[1].is_store && records[1].address == 0x2000u));
        BOOST_TEST(decoder.damaged() == 0u);
    }
}

BOOST_AUTO_TEST_CASE(a_record_with_an_unknown_packet_is_dropped_and_the_next_one_is_read) {
    Bytes bytes;
    record(bytes, {.timestamp = 1});
    packet(bytes, 0xb0, 0x1000, 8);
    packet(bytes, 0xc5, 1, 1);  // no such packet
    record(bytes, {.timestamp = 2});
    record(bytes, {.timestamp = 3});
    SpeDecoder decoder;
    auto records = decoded(decoder, bytes);
    BOOST_REQUIRE(records.size() == 2u);
    BOOST_TEST(records[1].timestamp == 3u);
    BOOST_TEST(decoder.damaged() == 1u);
    // Nor is a record without an end believed for ever.
    Bytes endless;
    for (int i = 0; i < 1000; i++) packet(endless, 0x98, 1, 2);
    BOOST_TEST(decoded(decoder, endless).empty());
    BOOST_TEST(decoder.damaged() == 2u);
    decoder.restart();
    Bytes sound;
    record(sound, {});
    BOOST_TEST(decoded(decoder, sound).size() == 1u);
}

BOOST_AUTO_TEST_CASE(data_sources_are_neoverses_own_and_of_others_the_events_tell) {
    auto with = [](uint8_t source, uint64_t events, bool store = false) {
        Bytes bytes;
        record(bytes, {.events = events, .source = source, .store = store});
        SpeDecoder decoder;
        return decoded(decoder, bytes).at(0);
    };
    for (uint8_t cache : {0, 8, 9, 10, 11, 12, 13})
        BOOST_TEST((source_of(with(cache, 0)) == DataSource::cache));
    BOOST_TEST((source_of(with(14, kSpeRemoteAccess)) == DataSource::remote_memory));
    BOOST_TEST((source_of(with(99, 0)) == DataSource::unknown));
    BOOST_TEST((source_of(with(14, 0), false) == DataSource::cache));  // no miss
    BOOST_TEST((source_of(with(0, kSpeL1Miss | kSpeLastLevelMiss), false) == DataSource::local_memory));
    BOOST_TEST(
        (source_of(with(0, kSpeLastLevelMiss | kSpeRemoteAccess), false) == DataSource::remote_memory));
    BOOST_TEST((source_of(with(0, kSpeLastLevelAccess | kSpeL1Miss), false) == DataSource::cache));
    BOOST_TEST((source_of(with(0, kSpeL1Miss), false) == DataSource::unknown));
    BOOST_TEST(is_store(perf_data_source(with(0, 0, true), true)));
    BOOST_TEST(perf_data_source(SpeRecord{}, true) == 0u);  // a branch
    BOOST_TEST(is_neoverse(0x410fd0c1));                    // N1
    BOOST_TEST(is_neoverse(0x410fd4f0));                    // V2
    BOOST_TEST(!is_neoverse(0xc00fac30));                   // another maker's
    BOOST_TEST(!is_neoverse(0));
}

BOOST_AUTO_TEST_CASE(each_record_is_put_down_to_the_thread_that_ran_at_its_time) {
    Rings rings;
    rings.on_switch(11, 1'000'000);
    rings.on_switch(12, 2'000'000);
    // Ticks of 40 ns; the newest record is of the piece's time.
    const Plan plans[] = {{.address = 0x1000, .timestamp = 100'000},  // 2.99 ms before: nobody known
                          {.address = 0x2000, .timestamp = 100'000 + 1'000'000 / 40},   // 1.01 ms: thread 11
                          {.address = 0x3000, .timestamp = 100'000 + 2'000'000 / 40},   // 2.01 ms: thread 12
                          {.address = 0x4000, .timestamp = 100'000 + 2'990'000 / 40}};  // 3 ms
    rings.piece(plans, 13, 3'000'000);
    auto records = rings.drain();
    BOOST_REQUIRE(records.size() == 4u);
    BOOST_TEST(records[0].tid == 11u);  // nobody was switched to before it
    BOOST_TEST(records[0].time_ns == 10'000u);
    BOOST_TEST(records[1].tid == 11u);
    BOOST_TEST(records[2].tid == 12u);
    BOOST_TEST(records[3].tid == 13u);
    BOOST_TEST(records[3].time_ns == 3'000'000u);
    for (const AccessRecord& one : records) {
        BOOST_TEST(one.pid == 4000u);
        BOOST_TEST(one.cpu == 3u);
        BOOST_TEST(one.period == 100u);
        BOOST_TEST(one.latency_cycles == 250u);
        BOOST_TEST((data_source_of(one.data_source) == DataSource::local_memory));
    }
    BOOST_TEST(rings.page().aux_tail == rings.page().aux_head);
}

BOOST_AUTO_TEST_CASE(pieces_wrap_around_the_rings_and_lost_ones_are_counted) {
    Rings rings;
    uint64_t seen = 0;
    for (uint64_t round = 0; round < 200; round++) {
        const Plan plans[] = {{.timestamp = round}, {.timestamp = round + 1}};
        rings.piece(plans, 11, 1000 * (round + 1), round == 50 ? PERF_AUX_FLAG_TRUNCATED : 0);
        if (round == 60) rings.on_lost();
        seen += rings.drain().size();
    }
    BOOST_TEST(seen == 400u);
    SourceCounters counters = rings.stream.counters();
    BOOST_TEST(counters.records == 400u);
    BOOST_TEST(counters.lost == 4u);
    BOOST_TEST(counters.wrapped > 0u);
    BOOST_TEST(counters.damaged == 0u);
}

BOOST_AUTO_TEST_CASE(a_thread_that_is_not_known_and_a_kernels_idle_thread_own_no_records) {
    Rings rings;
    const Plan plans[] = {{}};
    rings.piece(plans, 0, 1000);  // the idle thread
    BOOST_TEST(rings.drain().empty());
    BOOST_TEST(rings.stream.without_thread() == 1u);
}

BOOST_AUTO_TEST_CASE(pieces_that_the_ring_does_not_hold_are_refused) {
    Rings rings;
    const Plan plans[] = {{}};
    rings.piece(plans, 11, 1000);
    for (auto [offset, bytes] : std::initializer_list<std::pair<uint64_t, uint64_t>>{{0, 1u << 20},
                                                                                     {1u << 20, 64},
                                                                                     {UINT64_MAX, 64},
                                                                                     {UINT64_MAX - 63, 64},
                                                                                     {0, UINT64_MAX},
                                                                                     {64, 4096}})
        rings.on_piece(offset, bytes, 0, 11, 2000);
    Bytes cut;
    put(cut, 1, 8);
    rings.add(PERF_RECORD_AUX, cut, 11, 2000);
    BOOST_TEST(rings.drain().size() == 1u);
    BOOST_TEST(rings.stream.counters().damaged == 7u);
    rings.piece(plans, 11, 3000);
    BOOST_TEST(rings.drain().size() == 1u);
}

BOOST_AUTO_TEST_CASE(damaged_packets_are_read_or_refused_but_never_followed_out_of_the_ring) {
    std::mt19937 random(5);
    auto pick = [&](size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random); };
    for (int round = 0; round < 5000; round++) {
        Bytes bytes;
        for (uint64_t i = 0; i < 4; i++) record(bytes, {.timestamp = i});
        for (size_t i = 0; i < 1 + pick(8); i++)
            bytes[pick(bytes.size())] = static_cast<std::byte>(pick(256));
        SpeDecoder decoder;
        uint64_t records = decoded(decoder, std::span(bytes).first(pick(bytes.size()))).size();
        BOOST_REQUIRE(records <= bytes.size());
    }
}

BOOST_AUTO_TEST_CASE(a_machine_without_it_is_said_so) {
    auto source = SpeSource::open(false);
    if (source) return;  // an Arm, with rights
    BOOST_TEST(!source.error().text().empty());
    BOOST_TEST(source.error().text().find('\n') == std::string::npos);
}

}  // namespace tierd
