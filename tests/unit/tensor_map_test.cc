#define BOOST_TEST_MODULE tensor_map
#include "lib/model/tensor_map.h"
#include "lib/model/extent_layout.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <new>

#include "lib/base/fd.h"
#include "lib/model/file_identity.h"
#include "tests/unit/model_files.h"

using namespace tierd;
using tierd::test::GgufFile;
using tierd::test::raw;
using tierd::test::safetensors_file;

// Every allocation of this program is counted: that is how the tests state what a header may cost. Not
// inlined: g++ would see free() meet operator new and take it for a mistake.
static std::atomic<uint64_t> allocations{0};
static std::atomic<uint64_t> allocated_bytes{0};

[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
    ++allocations;
    allocated_bytes += bytes;
    return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void* operator new(size_t bytes) {
    if (void* memory = operator new(bytes, std::nothrow)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
void* operator new[](size_t bytes, const std::nothrow_t& none) noexcept {
    return operator new(bytes, none);
}
void* operator new[](size_t bytes) {
    return operator new(bytes);
}
void operator delete(void* memory, size_t) noexcept {
    operator delete(memory);
}
void operator delete[](void* memory) noexcept {
    operator delete(memory);
}
void operator delete[](void* memory, size_t) noexcept {
    operator delete(memory);
}

namespace {

struct Cost {
    uint64_t allocations;
    uint64_t bytes;
};

template <class Work>
Cost cost_of(Work work) {
    uint64_t count = allocations, bytes = allocated_bytes;
    work();
    return {allocations - count, allocated_bytes - bytes};
}

Result<TensorMap> parse(const std::string& file) {
    return parse_tensor_map(file.data(), file.size(), file.size());
}

TensorMap parsed(const std::string& file) {
    auto map = parse(file);
    BOOST_REQUIRE_MESSAGE(map.has_value(), (map ? std::string() : map.error().text()));
    return *map;
}

const Tensor& find(const TensorMap& map, std::string_view name) {
    for (const Tensor& tensor : map.tensors) {
        if (tensor.name == name) return tensor;
    }
    BOOST_REQUIRE_MESSAGE(false, "no tensor " << name);
    std::abort();
}

// One row of a table of damaged files: where it stands, the file, and a word that the message must have.
struct Damaged {
    int line;
    std::string file;
    const char* word;
};

void check_damaged(const std::vector<Damaged>& rows) {
    for (const Damaged& row : rows) {
        auto map = parse(row.file);
        BOOST_TEST_CONTEXT("row of line " << row.line) {
            BOOST_TEST(!map.has_value());
            if (map) continue;
            BOOST_TEST((map.error().code == Code::bad_input));
            BOOST_TEST(map.error().text().find(row.word) != std::string::npos,
                       "expected '" << row.word << "' in: " << map.error().text());
            BOOST_TEST(!map.error().hint.empty());
        }
    }
}

// A tensor's entry in a safetensors header.
std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, uint64_t begin,
                  uint64_t end) {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape,
                       begin, end);
}

std::string small_safetensors() {
    return safetensors_file("{" + entry("lm_head.weight", "BF16", "[4,4]", 64, 96) + "," +
                                entry("model.embed_tokens.weight", "F32", "[4,4]", 0, 64) +
                                R"(,"__metadata__":{"format":"pt"}})",
                            96);
}

GgufFile small_gguf() {
    GgufFile gguf;
    gguf.key("general.architecture", GgufFile::kString, GgufFile::text("llama"))
        .tensor("output.weight", {32, 2}, GgufFile::kTypeQ4_0, 128)
        .tensor("token_embd.weight", {16, 2}, GgufFile::kTypeF32, 0);
    return gguf;
}
constexpr uint64_t kSmallGgufData = 128 + 2 * 18;

// The tensors of a small mixture-of-experts model as converters write them: 2 layers, 8 experts, stacked.
GgufFile moe_gguf(uint64_t& data_bytes) {
    GgufFile gguf;
    uint64_t at = 0;
    auto add = [&](const std::string& name, const std::vector<uint64_t>& shape) {
        uint64_t bytes = 4;
        for (uint64_t dimension : shape) bytes *= dimension;
        gguf.tensor(name, shape, GgufFile::kTypeF32, at);
        at += (bytes + 31) / 32 * 32;
    };
    gguf.key("general.architecture", GgufFile::kString, GgufFile::text("qwen3moe"))
        .key("qwen3moe.expert_count", GgufFile::kU32, raw<uint32_t>(8));
    add("token_embd.weight", {16, 64});
    for (int layer = 0; layer < 2; ++layer) {
        std::string blk = fmt::format("blk.{}.", layer);
        add(blk + "attn_norm.weight", {16});
        add(blk + "attn_q.weight", {16, 16});
        add(blk + "ffn_gate_inp.weight", {16, 8});
        add(blk + "ffn_gate_exps.weight", {16, 32, 8});
        add(blk + "ffn_up_exps.weight", {16, 32, 8});
        add(blk + "ffn_down_exps.weight", {32, 16, 8});
    }
    add("output_norm.weight", {16});
    add("output.weight", {16, 64});
    data_bytes = at;
    return gguf;
}

// A file in the temporary folder that is gone when the test ends.
class TempFile {
  public:
    explicit TempFile(const std::string& bytes) {
        char path[] = "/tmp/tierd_model_XXXXXX";
        fd_ = Fd(::mkostemp(path, O_CLOEXEC));
        BOOST_REQUIRE(fd_);
        path_ = path;
        BOOST_REQUIRE_EQUAL(::write(fd_.get(), bytes.data(), bytes.size()),
                            static_cast<ssize_t>(bytes.size()));
    }
    ~TempFile() { ::unlink(path_.c_str()); }
    TempFile(const TempFile&) = delete;
    TempFile& operator=(const TempFile&) = delete;
    int fd() const { return fd_.get(); }
    const std::string& path() const { return path_; }

  private:
    Fd fd_;
    std::string path_;
};

// What the kernel counted of this process's reads.
struct Reads {
    uint64_t calls = 0;
    uint64_t bytes = 0;
};

Reads reads_so_far() {
    Reads reads;
    std::ifstream io("/proc/self/io");
    std::string word;
    uint64_t value = 0;
    while (io >> word >> value) {
        if (word == "rchar:") reads.bytes = value;
        if (word == "syscr:") reads.calls = value;
    }
    return reads;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors)

BOOST_AUTO_TEST_CASE(tensors_come_in_the_order_of_the_file_with_their_ranges_in_it) {
    std::string file = small_safetensors();
    TensorMap map = parsed(file);
    uint64_t data = file.size() - 96;
    BOOST_TEST(format_name(map.format) == "safetensors");
    BOOST_TEST(map.data_begin_bytes == data);
    BOOST_TEST(map.architecture.empty());
    BOOST_REQUIRE_EQUAL(map.tensors.size(), 2u);
    BOOST_TEST(map.tensors[0].name == "model.embed_tokens.weight");
    BOOST_TEST(map.tensors[0].begin_bytes == data);
    BOOST_TEST(map.tensors[0].end_bytes == data + 64);
    BOOST_TEST(map.tensors[1].name == "lm_head.weight");
    BOOST_TEST(map.tensors[1].dtype == "BF16");
    BOOST_TEST(map.tensors[1].shape == (std::vector<uint64_t>{4, 4}), boost::test_tools::per_element());
    BOOST_TEST(map.tensors[1].end_bytes == file.size());
    BOOST_TEST(role_name(map.tensors[1].role) == "head");
}

BOOST_AUTO_TEST_CASE(gaps_padding_scalars_empty_tensors_and_unknown_fields_and_dtypes_are_accepted) {
    TensorMap map = parsed(safetensors_file(
        "{" + entry("a", "F32", "[]", 0, 4) + "," + entry("b", "F16", "[0,7]", 4, 4) + "," +
            entry("c", "F4", "[16]", 16, 24) + "," + entry("d", "NEW_7", "[3]", 24, 29) +
            R"(,"e":{"note":[{"x":[1,-2,null]},true,1.5],"dtype":"U8","shape":[1],"data_offsets":[29,30]}}    )",
        64));
    BOOST_REQUIRE_EQUAL(map.tensors.size(), 5u);
    BOOST_TEST(map.tensors[2].begin_bytes - map.tensors[1].end_bytes == 12u);
    BOOST_TEST(map.tensors[3].dtype == "NEW_7");
    BOOST_TEST(map.tensors[4].name == "e");
    BOOST_TEST(parsed(safetensors_file("{}", 0)).tensors.empty());
}

BOOST_AUTO_TEST_CASE(stacked_experts_of_a_checkpoint_are_split_and_flat_ones_keep_their_number) {
    TensorMap map = parsed(safetensors_file(
        "{" + entry("model.layers.1.mlp.experts.gate_up_proj", "BF16", "[4,8,2]", 0, 128) + "," +
            entry("model.layers.1.mlp.experts.gate_up_proj_bias", "BF16", "[4,8]", 128, 192) + "," +
            entry("model.layers.2.mlp.experts.9.up_proj.weight", "U8", "[8]", 192, 200) + "}",
        200));
    BOOST_REQUIRE_EQUAL(map.tensors.size(), 6u);
    const Tensor& part = find(map, "model.layers.1.mlp.experts.gate_up_proj[3]");
    BOOST_TEST(part.expert == 3);
    BOOST_TEST(part.layer == 1);
    BOOST_TEST(part.end_bytes - part.begin_bytes == 32u);
    BOOST_TEST(part.shape == (std::vector<uint64_t>{8, 2}), boost::test_tools::per_element());
    BOOST_TEST(find(map, "model.layers.1.mlp.experts.gate_up_proj_bias").expert == TIERD_NO_EXPERT);
    BOOST_TEST(find(map, "model.layers.2.mlp.experts.9.up_proj.weight").expert == 9);
    BOOST_TEST(map.layers == 3);
    BOOST_TEST(map.experts == 10);
}

BOOST_AUTO_TEST_CASE(a_damaged_header_is_refused_with_its_reason) {
    auto file = [](const std::string& entries) { return safetensors_file("{" + entries + "}", 64); };
    std::string good = entry("a", "U8", "[8]", 0, 8);
    check_damaged({
        {__LINE__, raw<uint64_t>(UINT64_MAX) + "{}", "announced"},
        {__LINE__, raw<uint64_t>(1ull << 63) + "{}", "announced"},
        {__LINE__, raw<uint64_t>(3) + "{}", "announced"},
        {__LINE__, raw<uint64_t>(1) + "{}", "JSON"},
        {__LINE__, file(entry("a", "U8", "[8]", 60, 68)), "ends at byte 68"},
        {__LINE__, file(entry("a", "U8", "[8]", 8, 0)), "range"},
        {__LINE__, file(entry("a", "U8", "[8]", UINT64_MAX - 7, UINT64_MAX)), "ends at byte"},
        {__LINE__, file(entry("a", "F32", "[8]", 0, 8)), "bits"},
        {__LINE__, file(entry("a", "F4", "[3]", 0, 1)), "bits"},
        {__LINE__, file(entry("a", "U8", "[4294967296,4294967296]", 0, 0)), "overflows"},
        {__LINE__, file(entry("a", "F64", "[4611686018427387904]", 0, 0)), "overflows"},
        {__LINE__, file(entry("a", "U8", "[18446744073709551616]", 0, 8)), "wrong kind"},
        {__LINE__, file(entry("a", "U8", "[-8]", 0, 8)), "wrong kind"},
        {__LINE__, file(entry("a", "U8", "[8.0]", 0, 8)), "wrong kind"},
        {__LINE__, file(entry("a", "U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,8]", 0, 8)), "too long"},
        {__LINE__, file(entry("a", "U8", "[[8]]", 0, 8)), "list where none"},
        {__LINE__, file(entry("a", "", "[8]", 0, 8)), "dtype"},
        {__LINE__, file(entry("a", "\\u001b", "[8]", 0, 8)), "control"},
        {__LINE__, file(entry("\\u001b[2J", "U8", "[8]", 0, 8)), "control"},
        {__LINE__, file(entry("\x7f", "U8", "[8]", 0, 8)), "control"},
        {__LINE__, file(entry("", "U8", "[8]", 0, 8)), "name of 0 bytes"},
        {__LINE__, file(entry(std::string(513, 'n'), "U8", "[8]", 0, 8)), "name of 513 bytes"},
        {__LINE__, file(good + "," + entry("a", "U8", "[8]", 8, 16)), "twice"},
        {__LINE__, file(good + "," + entry("b", "U8", "[8]", 7, 15)), "overlaps"},
        {__LINE__, file(good + "," + entry("b", "U8", "[4]", 2, 6)), "overlaps"},
        {__LINE__, file(R"("a":{"dtype":"U8","shape":[8]})"), "missing"},
        {__LINE__, file(R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0]})"), "range"},
        {__LINE__, file(R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]})"), "too long"},
        {__LINE__, file(R"("a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]})"), "twice"},
        {__LINE__, file(R"("a":{"dtype":{},"shape":[8],"data_offsets":[0,8]})"), "object"},
        {__LINE__, file(R"("a":[1])"), "list where none"},
        {__LINE__, file(R"("a":7)"), "wrong kind"},
        {__LINE__, file(R"("__metadata__":{"n":1})"), "wrong kind"},
        {__LINE__, file(R"("__metadata__":{"n":{}})"), "object"},
        {__LINE__, safetensors_file("{" + good + "}{}", 64), "JSON"},
        {__LINE__, safetensors_file("{" + good, 64), "JSON"},
    });
}

BOOST_AUTO_TEST_CASE(a_header_that_is_not_utf_8_is_refused) {
    for (const char* bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
        check_damaged({{__LINE__, safetensors_file("{" + entry(bad, "U8", "[8]", 0, 8) + "}", 8), "UTF-8"}});
    }
    BOOST_TEST(
        parsed(safetensors_file("{" + entry("Gewicht\xc3\xa4", "U8", "[8]", 0, 8) + "}", 8)).tensors.size() ==
        1u);
}

BOOST_AUTO_TEST_CASE(a_file_cut_at_any_byte_never_gives_a_tensor_outside_it) {
    std::string file = small_safetensors();
    for (size_t length = 0; length < file.size(); ++length) {
        auto map = parse(file.substr(0, length));
        BOOST_TEST_CONTEXT("cut at byte " << length) {
            // Shorter than its signature it is any small file; longer, it is a damaged one.
            BOOST_TEST(map.has_value() == (length < 9));
            if (map) BOOST_TEST((map->format == WeightFormat::plain && map->tensors.empty()));
            if (!map) BOOST_TEST((map.error().code == Code::bad_input));
        }
    }
}

BOOST_AUTO_TEST_CASE(a_bomb_of_nested_json_is_refused_at_its_ninth_bracket) {
    std::string bomb = R"({"a":{"x":)" + std::string(1 << 20, '[');
    std::string file = safetensors_file(bomb, 0);
    Cost cost = cost_of([&] { BOOST_TEST(!parse(file).has_value()); });
    BOOST_TEST(cost.bytes < 64u << 10);
    check_damaged({{__LINE__, file, "nested"},
                   {__LINE__, safetensors_file(R"({"a":{"x":{"y":{"y":{"y":{"y":{"y":{"y":{"y":{"y":{)", 0),
                    "nested"}});
}

BOOST_AUTO_TEST_CASE(a_bomb_of_json_values_is_refused_at_a_count_and_keeps_none_of_them) {
    std::string bomb = R"({"a":{"x":[)";
    bomb.reserve((1u << 25) + 64);
    for (uint32_t i = 0; i < (1u << 24); ++i) bomb += "1,";
    std::string file = safetensors_file(bomb, 0);
    Cost cost = cost_of([&] { BOOST_TEST(!parse(file).has_value()); });
    BOOST_TEST(cost.bytes < 64u << 10);
    check_damaged({{__LINE__, file, "values"}});
}

BOOST_AUTO_TEST_CASE(an_endless_string_is_refused_before_it_is_copied) {
    std::string file =
        safetensors_file(R"({"__metadata__":{"x":")" + std::string(5 << 20, '\\') + R"("}})", 0);
    Cost cost = cost_of([&] { BOOST_TEST(!parse(file).has_value()); });
    BOOST_TEST(cost.bytes < 64u << 10);
    check_damaged({{__LINE__, file, "string"}});
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(gguf)

BOOST_AUTO_TEST_CASE(versions_2_and_3_give_tensors_in_the_order_of_the_file) {
    for (uint32_t version : {2u, 3u}) {
        GgufFile gguf = small_gguf();
        gguf.version = version;
        std::string file = gguf.file(kSmallGgufData);
        TensorMap map = parsed(file);
        uint64_t data = file.size() - kSmallGgufData;
        BOOST_TEST(format_name(map.format) == "gguf");
        BOOST_TEST(map.architecture == "llama");
        BOOST_TEST(map.data_begin_bytes == data);
        BOOST_REQUIRE_EQUAL(map.tensors.size(), 2u);
        BOOST_TEST(map.tensors[0].name == "token_embd.weight");
        BOOST_TEST(map.tensors[0].begin_bytes == data);
        BOOST_TEST(map.tensors[0].end_bytes == data + 128);
        BOOST_TEST(map.tensors[0].shape == (std::vector<uint64_t>{2, 16}), boost::test_tools::per_element());
        BOOST_TEST(map.tensors[1].dtype == "Q4_0");
        BOOST_TEST(map.tensors[1].end_bytes == file.size());
        BOOST_TEST(map.split_count == 1);
    }
}

BOOST_AUTO_TEST_CASE(every_known_type_has_the_size_of_its_blocks) {
    struct Row {
        int line;
        uint32_t type;
        const char* name;
        uint64_t block, bytes;
    };
    const Row rows[] = {
        {__LINE__, 0, "F32", 1, 4},         {__LINE__, 1, "F16", 1, 2},
        {__LINE__, 2, "Q4_0", 32, 18},      {__LINE__, 3, "Q4_1", 32, 20},
        {__LINE__, 6, "Q5_0", 32, 22},      {__LINE__, 7, "Q5_1", 32, 24},
        {__LINE__, 8, "Q8_0", 32, 34},      {__LINE__, 9, "Q8_1", 32, 36},
        {__LINE__, 10, "Q2_K", 256, 84},    {__LINE__, 11, "Q3_K", 256, 110},
        {__LINE__, 12, "Q4_K", 256, 144},   {__LINE__, 13, "Q5_K", 256, 176},
        {__LINE__, 14, "Q6_K", 256, 210},   {__LINE__, 15, "Q8_K", 256, 292},
        {__LINE__, 16, "IQ2_XXS", 256, 66}, {__LINE__, 17, "IQ2_XS", 256, 74},
        {__LINE__, 18, "IQ3_XXS", 256, 98}, {__LINE__, 19, "IQ1_S", 256, 50},
        {__LINE__, 20, "IQ4_NL", 32, 18},   {__LINE__, 21, "IQ3_S", 256, 110},
        {__LINE__, 22, "IQ2_S", 256, 82},   {__LINE__, 23, "IQ4_XS", 256, 136},
        {__LINE__, 24, "I8", 1, 1},         {__LINE__, 25, "I16", 1, 2},
        {__LINE__, 26, "I32", 1, 4},        {__LINE__, 27, "I64", 1, 8},
        {__LINE__, 28, "F64", 1, 8},        {__LINE__, 29, "IQ1_M", 256, 56},
        {__LINE__, 30, "BF16", 1, 2},       {__LINE__, 34, "TQ1_0", 256, 54},
        {__LINE__, 35, "TQ2_0", 256, 66},   {__LINE__, 39, "MXFP4", 32, 17},
        {__LINE__, 40, "NVFP4", 64, 36},    {__LINE__, 41, "Q1_0", 128, 18},
        {__LINE__, 42, "Q2_0", 64, 18},
    };
    for (const Row& row : rows) {
        TensorMap map = parsed(GgufFile().tensor("x", {row.block * 2, 3}, row.type, 0).file(row.bytes * 6));
        BOOST_TEST_CONTEXT("row of line " << row.line) {
            BOOST_TEST(map.tensors[0].dtype == row.name);
            BOOST_TEST(map.tensors[0].end_bytes - map.tensors[0].begin_bytes == row.bytes * 6);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_tensor_of_unknown_type_ends_where_the_next_one_or_the_file_does) {
    std::string file = GgufFile()
                           .tensor("last", {32}, 1000, 96)
                           .tensor("first", {32}, 31, 0)
                           .tensor("second", {8}, GgufFile::kTypeF32, 64)
                           .file(200);
    TensorMap map = parsed(file);
    BOOST_TEST(find(map, "first").end_bytes == map.data_begin_bytes + 64);
    BOOST_TEST(find(map, "second").end_bytes == map.data_begin_bytes + 96);
    BOOST_TEST(find(map, "last").end_bytes == file.size());
    BOOST_TEST(find(map, "last").dtype == "type 1000");
}

BOOST_AUTO_TEST_CASE(metadata_of_every_type_and_nested_arrays_are_stepped_over) {
    GgufFile gguf = small_gguf();
    const uint64_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    for (uint32_t type = 0; type <= GgufFile::kF64; ++type) {
        if (sizes[type] == 0) continue;
        gguf.key(fmt::format("x.value{}", type), type, std::string(sizes[type], '\1'));
        gguf.key(fmt::format("x.array{}", type), GgufFile::kArray,
                 raw(type) + raw<uint64_t>(3) + std::string(3 * sizes[type], '\1'));
    }
    std::string strings =
        raw(GgufFile::kString) + raw<uint64_t>(2) + GgufFile::text("a") + GgufFile::text("\xff\xfe");
    gguf.key("x.strings", GgufFile::kArray, strings);
    gguf.key("x.nested", GgufFile::kArray, raw(GgufFile::kArray) + raw<uint64_t>(2) + strings + strings);
    gguf.key("x.empty", GgufFile::kArray, raw(GgufFile::kArray) + raw<uint64_t>(0));
    TensorMap map = parsed(gguf.file(kSmallGgufData));
    BOOST_TEST(map.tensors.size() == 2u);
}

BOOST_AUTO_TEST_CASE(the_alignment_of_the_data_is_the_files_own) {
    GgufFile gguf;
    gguf.key("general.alignment", GgufFile::kU32, raw<uint32_t>(4096))
        .tensor("a", {8}, GgufFile::kTypeF32, 4096);
    TensorMap map = parsed(gguf.file(4096 + 32, 4096));
    BOOST_TEST(map.data_begin_bytes == 4096u);
    BOOST_TEST(map.tensors[0].begin_bytes == 8192u);
}

BOOST_AUTO_TEST_CASE(a_part_of_a_split_model_says_which_one_it_is) {
    GgufFile gguf = small_gguf();
    gguf.key("split.no", GgufFile::kU16, raw<uint16_t>(1))
        .key("split.count", GgufFile::kU16, raw<uint16_t>(7))
        .key("split.tensors.count", GgufFile::kI32, raw<int32_t>(100));
    TensorMap map = parsed(gguf.file(kSmallGgufData));
    BOOST_TEST(map.split_index == 1);
    BOOST_TEST(map.split_count == 7);

    // The first part may hold metadata alone, and then nothing pads its end.
    GgufFile first;
    first.key("split.no", GgufFile::kU16, raw<uint16_t>(0))
        .key("split.count", GgufFile::kU16, raw<uint16_t>(7));
    BOOST_TEST(parsed(first.header()).tensors.empty());
}

BOOST_AUTO_TEST_CASE(stacked_experts_are_split_into_their_experts) {
    uint64_t data_bytes = 0;
    std::string file = moe_gguf(data_bytes).file(data_bytes);
    TensorMap map = parsed(file);
    BOOST_TEST(map.architecture == "qwen3moe");
    BOOST_TEST(map.layers == 2);
    BOOST_TEST(map.experts == 8);
    BOOST_TEST(map.tensors.size() == 3u + 2 * (3 + 3 * 8));
    const Tensor& part = find(map, "blk.1.ffn_down_exps.weight[7]");
    BOOST_TEST(role_name(part.role) == "expert");
    BOOST_TEST(part.layer == 1);
    BOOST_TEST(part.expert == 7);
    BOOST_TEST(part.shape == (std::vector<uint64_t>{16, 32}), boost::test_tools::per_element());
    BOOST_TEST(part.end_bytes - part.begin_bytes == 32u * 16 * 4);
    BOOST_TEST(find(map, "blk.1.ffn_down_exps.weight[6]").end_bytes == part.begin_bytes);
    BOOST_TEST(role_name(find(map, "blk.0.ffn_gate_inp.weight").role) == "router");
    for (size_t i = 1; i < map.tensors.size(); ++i) {
        BOOST_TEST(map.tensors[i - 1].end_bytes <= map.tensors[i].begin_bytes);
    }
    BOOST_TEST(map.tensors.back().end_bytes == file.size());
}

BOOST_AUTO_TEST_CASE(a_damaged_header_is_refused_with_its_reason) {
    auto one = [](const GgufFile& gguf) { return gguf.file(4096); };
    auto counts = [](uint64_t tensors, uint64_t keys) {
        GgufFile gguf = small_gguf();
        gguf.tensor_count = tensors;
        gguf.key_count = keys;
        return gguf.file(kSmallGgufData);
    };
    auto version = [](uint32_t number) {
        GgufFile gguf = small_gguf();
        gguf.version = number;
        return gguf.file(kSmallGgufData);
    };
    auto array = [](uint32_t type, uint64_t count, const std::string& bytes) {
        return GgufFile().key("x", GgufFile::kArray, raw(type) + raw(count) + bytes).file(4096);
    };
    auto key = [](std::string_view name, uint32_t type, const std::string& value) {
        return GgufFile().key(name, type, value).file(4096);
    };
    auto tensor = [](std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                     uint64_t offset) { return GgufFile().tensor(name, shape, type, offset).file(4096); };
    std::string deep;
    for (int i = 0; i < 1000; ++i) deep += raw(GgufFile::kArray) + raw<uint64_t>(1);
    std::string huge_string = GgufFile().key("x", GgufFile::kString, raw<uint64_t>(UINT64_MAX)).file(64);
    check_damaged({
        {__LINE__, version(1), "version 1"},
        {__LINE__, version(4), "version 4"},
        {__LINE__, version(0x03000000), "big-endian"},
        {__LINE__, version(0x02000000), "big-endian"},
        {__LINE__, counts(UINT64_MAX, 1), "tensors are announced"},
        {__LINE__, counts(kMaxTensors, 1), "more than the header can hold"},
        {__LINE__, counts(2, UINT64_MAX), "keys are announced"},
        {__LINE__, counts(2, 65536), "more than the header can hold"},
        {__LINE__, huge_string, "are announced"},
        {__LINE__, array(GgufFile::kString, UINT64_MAX, ""), "more than the header can hold"},
        {__LINE__, array(GgufFile::kU8, UINT64_MAX, ""), "more than the header can hold"},
        {__LINE__, array(GgufFile::kF64, UINT64_MAX / 8 + 2, ""), "more than the header can hold"},
        {__LINE__, array(GgufFile::kArray, UINT64_MAX / 12, ""), "more than the header can hold"},
        {__LINE__, array(GgufFile::kArray, 1, deep), "nested"},
        {__LINE__, array(13, 1, ""), "array type 13"},
        {__LINE__, key("x", 13, ""), "type 13"},
        {__LINE__, key("", GgufFile::kU8, "\1"), "metadata key of 0"},
        {__LINE__, key("\xff", GgufFile::kU8, "\1"), "UTF-8"},
        {__LINE__, key("general.alignment", GgufFile::kU32, raw<uint32_t>(0)), "power of two"},
        {__LINE__, key("general.alignment", GgufFile::kU32, raw<uint32_t>(48)), "power of two"},
        {__LINE__, key("general.alignment", GgufFile::kU64, raw<uint64_t>(1ull << 63)), "power of two"},
        {__LINE__, key("general.alignment", GgufFile::kF32, raw(32.0f)), "whole number"},
        {__LINE__, key("general.architecture", GgufFile::kString, GgufFile::text("\xc0\x80")), "UTF-8"},
        {__LINE__, key("split.no", GgufFile::kU16, raw<uint16_t>(1)), "part 1"},
        {__LINE__, key("split.no", GgufFile::kI32, raw<int32_t>(-1)), "whole number"},
        {__LINE__, key("split.count", GgufFile::kU16, raw<uint16_t>(0)), "in 0 parts"},
        {__LINE__, key("split.count", GgufFile::kU32, raw<uint32_t>(65537)), "65537"},
        {__LINE__, one(GgufFile().key("x", 0, "\1").key("x", 0, "\1")), "twice"},
        {__LINE__, one(small_gguf().key("split.tensors.count", 5, raw<int32_t>(1))), "model of 1"},
        {__LINE__, tensor("", {8}, 0, 0), "tensor name of 0"},
        {__LINE__, tensor(std::string(513, 'n'), {8}, 0, 0), "tensor name of 513"},
        {__LINE__, tensor("\xed\xa0\x80", {8}, 0, 0), "UTF-8"},
        {__LINE__, tensor("a\nb", {8}, 0, 0), "plain"},
        {__LINE__, tensor("\xc2\x9b[2J", {8}, 0, 0), "plain"},
        {__LINE__, tensor("a", {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 0), "9 dimensions"},
        {__LINE__, tensor("a", {1ull << 32, 1ull << 32}, 0, 0), "overflows"},
        {__LINE__, tensor("a", {1ull << 62}, 0, 0), "overflows"},
        {__LINE__, tensor("a", {31}, GgufFile::kTypeQ4_0, 0), "whole blocks"},
        {__LINE__, tensor("a", {8}, 0, 4), "multiple of 32"},
        {__LINE__, tensor("a", {8}, 0, 4096), "past the end"},
        {__LINE__, tensor("a", {8}, 0, UINT64_MAX - 31), "past the end"},
        {__LINE__, tensor("a", {1 << 20}, 0, 0), "past the end"},
        {__LINE__, tensor("a", {8}, 77, UINT64_MAX - 31), "past the end"},
        {__LINE__, one(GgufFile().tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32)), "twice"},
        {__LINE__, one(GgufFile().tensor("a", {16}, 0, 0).tensor("b", {8}, 0, 32)), "overlaps"},
        {__LINE__, one(GgufFile().tensor("a", {8}, 0, 32).tensor("b", {8}, 0, 32)), "overlaps"},
    });
}

BOOST_AUTO_TEST_CASE(a_file_cut_at_any_byte_never_gives_a_tensor_outside_it) {
    uint64_t data_bytes = 0;
    for (const std::string& file : {small_gguf().file(kSmallGgufData), moe_gguf(data_bytes).file(0)}) {
        for (size_t length = 0; length < file.size(); ++length) {
            auto map = parse(file.substr(0, length));
            if (map.has_value() == (length < 4) && (map || map.error().code == Code::bad_input)) continue;
            BOOST_ERROR("cut at byte " << length << ": " << (map ? "accepted" : map.error().text()));
        }
        BOOST_TEST(parse_tensor_map(file.data(), file.size(), 1ull << 30).has_value());
    }
}

BOOST_AUTO_TEST_CASE(absurd_counts_cost_no_memory) {
    std::string bombs[] = {
        "GGUF" + raw<uint32_t>(3) + raw<uint64_t>(kMaxTensors) + raw<uint64_t>(0),
        "GGUF" + raw<uint32_t>(3) + raw<uint64_t>(0) + raw<uint64_t>(65536),
        GgufFile().key("x", 9, raw<uint32_t>(9) + raw<uint64_t>(UINT64_MAX)).header(),
        GgufFile().tensor("a.ffn_up_exps.weight", {1, 1, 65534}, 0, 0).header(),
    };
    for (const std::string& bomb : bombs) {
        Cost cost = cost_of([&] { BOOST_TEST(!parse(bomb).has_value()); });
        BOOST_TEST(cost.bytes < 64u << 10);
    }
}

BOOST_AUTO_TEST_CASE(stacks_that_would_make_too_many_tensors_are_refused_before_they_are_split) {
    GgufFile many;
    for (int i = 0; i < 17; ++i) {
        many.tensor(fmt::format("blk.{}.ffn_up_exps.weight", i), {8, 1, 65534}, 0, uint64_t(i) * 65534 * 32);
    }
    GgufFile long_names;
    for (int i = 0; i < 3; ++i) {
        std::string name = fmt::format("blk.{}.{}.ffn_up_exps.weight", i, std::string(450, 'n'));
        long_names.tensor(name, {8, 1, 65534}, 0, uint64_t(i) * 65534 * 32);
    }
    for (const std::string& header : {many.header(), long_names.header()}) {
        Cost cost = cost_of([&] {
            auto map = parse_tensor_map(header.data(), header.size(), 1ull << 40);
            BOOST_TEST((!map && map.error().code == Code::bad_input));
        });
        BOOST_TEST(cost.bytes < 64u << 10);
    }
}

BOOST_AUTO_TEST_CASE(a_tokenizer_of_256k_strings_is_stepped_over_without_copying_one) {
    constexpr uint64_t kTokens = 256 << 10;
    std::string tokens = raw(GgufFile::kString) + raw(kTokens);
    for (uint64_t i = 0; i < kTokens; ++i) tokens += GgufFile::text("token of some length");
    GgufFile gguf = small_gguf();
    gguf.key("tokenizer.ggml.tokens", GgufFile::kArray, tokens)
        .key("tokenizer.ggml.scores", GgufFile::kArray,
             raw(GgufFile::kF32) + raw(kTokens) + std::string(4 * kTokens, '\0'));
    std::string file = gguf.file(kSmallGgufData);
    Cost cost = cost_of([&] { BOOST_TEST(parse(file)->tensors.size() == 2u); });
    BOOST_TEST(cost.allocations < 100u);
    BOOST_TEST(cost.bytes < 64u << 10);

    // From a file: bytes and calls as the kernel counts them.
    TempFile on_disk(file);
    Reads before = reads_so_far();
    auto map = read_tensor_map(on_disk.fd(), file.size());
    Reads after = reads_so_far();
    BOOST_TEST(map->tensors.size() == 2u);
    BOOST_TEST(after.calls - before.calls < 50u);
    BOOST_TEST(after.bytes - before.bytes < file.size() * 3 / 2);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(files)

BOOST_AUTO_TEST_CASE(a_map_read_from_a_descriptor_is_that_of_its_bytes_and_the_offset_stays) {
    for (const std::string& file : {small_safetensors(), small_gguf().file(kSmallGgufData)}) {
        TempFile on_disk(file);
        BOOST_REQUIRE_EQUAL(::lseek(on_disk.fd(), 5, SEEK_SET), 5);
        auto map = read_tensor_map(on_disk.fd(), file.size());
        BOOST_REQUIRE(map.has_value());
        TensorMap same = parsed(file);
        BOOST_REQUIRE_EQUAL(map->tensors.size(), same.tensors.size());
        for (size_t i = 0; i < same.tensors.size(); ++i) {
            BOOST_TEST(map->tensors[i].name == same.tensors[i].name);
            BOOST_TEST(map->tensors[i].begin_bytes == same.tensors[i].begin_bytes);
            BOOST_TEST(map->tensors[i].end_bytes == same.tensors[i].end_bytes);
        }
        BOOST_TEST(::lseek(on_disk.fd(), 0, SEEK_CUR) == 5);
    }
}

BOOST_AUTO_TEST_CASE(a_large_file_with_a_small_header_is_not_read_beyond_its_beginning) {
    GgufFile gguf;
    gguf.tensor("token_embd.weight", {1 << 20, 64}, GgufFile::kTypeF32, 0);
    TempFile on_disk(gguf.file(0));
    constexpr uint64_t kFileBytes = 1ull << 30;
    BOOST_REQUIRE_EQUAL(::ftruncate(on_disk.fd(), kFileBytes), 0);
    Reads before = reads_so_far();
    auto map = read_tensor_map(on_disk.fd(), kFileBytes);
    Reads after = reads_so_far();
    BOOST_TEST(map->tensors.size() == 1u);
    BOOST_TEST(after.bytes - before.bytes <= (256u << 10) + 4096);
}

BOOST_AUTO_TEST_CASE(a_file_that_is_neither_format_has_an_empty_plain_map) {
    for (const std::string& file :
         {std::string(), std::string("GGU"), std::string("weights"), std::string(5000, 'x')}) {
        TempFile on_disk(file);
        auto map = read_tensor_map(on_disk.fd(), file.size());
        BOOST_REQUIRE(map.has_value());
        BOOST_TEST(format_name(map->format) == "plain");
        BOOST_TEST(map->tensors.empty());
    }
    BOOST_TEST(parse_tensor_map(nullptr, 0, 0)->tensors.empty());
}

BOOST_AUTO_TEST_CASE(a_file_that_shrinks_or_cannot_be_read_is_an_io_error) {
    std::string file = small_gguf().file(kSmallGgufData);
    TempFile on_disk(file);
    auto shrunk = read_tensor_map(on_disk.fd(), file.size() + 1);
    BOOST_TEST((!shrunk && shrunk.error().code == Code::io));
    Fd write_only(::open(on_disk.path().c_str(), O_WRONLY | O_CLOEXEC));
    auto unreadable = read_tensor_map(write_only.get(), file.size());
    BOOST_TEST((!unreadable && unreadable.error().code == Code::io && unreadable.error().err == EBADF));
}

BOOST_AUTO_TEST_CASE(an_identity_is_equal_until_the_file_is_written_or_replaced) {
    TempFile file("weights");
    FileIdentity first = identify(file.fd()).value();
    BOOST_TEST((identify(file.fd()).value() == first));
    BOOST_TEST(first.size_bytes == 7u);
    BOOST_TEST(identity_key(first) == fmt::format("{}:{}:7:{}", first.device, first.inode, first.mtime_ns));

    const timespec new_time[2] = {{0, UTIME_OMIT}, {1'000'000'000, 5}};
    BOOST_REQUIRE_EQUAL(::futimens(file.fd(), new_time), 0);
    FileIdentity touched = identify(file.fd()).value();
    BOOST_TEST(!(touched == first));
    BOOST_TEST(touched.mtime_ns == 1'000'000'000'000'000'005);
    BOOST_TEST(identity_key(touched) != identity_key(first));

    TempFile other("weights");
    BOOST_TEST(identify(other.fd()).value().inode != first.inode);
}

BOOST_AUTO_TEST_CASE(only_regular_files_have_an_identity) {
    Fd folder(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    auto refused = identify(folder.get());
    BOOST_TEST((!refused && refused.error().code == Code::bad_input));
    auto closed = identify(-1);
    BOOST_TEST((!closed && closed.error().code == Code::kernel_refused && closed.error().err == EBADF));
}

BOOST_AUTO_TEST_CASE(the_parts_of_a_split_model_share_its_name) {
    const std::pair<const char*, const char*> rows[] = {
        {"/models/big-00002-of-00007.gguf", "big.gguf"},
        {"model-00001-of-00004.safetensors", "model.safetensors"},
        {"/a/b.c/llama-7b.Q4_K_M.gguf", "llama-7b.Q4_K_M.gguf"},
        {"/a/one-of-7.gguf", "one-of-7.gguf"},
        {"/a/x-1-of-.gguf", "x-1-of-.gguf"},
        {"/a/-of-3.gguf", "-of-3.gguf"},
        {"/a/weights-3-of-4", "weights"},
        {"/a/folder/", "folder"},
        {"plain", "plain"},
        {"", ""},
    };
    for (auto [path, name] : rows) BOOST_TEST(model_name(path) == name);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(meaning)

BOOST_AUTO_TEST_CASE(names_of_both_habits_tell_role_layer_and_expert) {
    constexpr uint16_t none = TIERD_NO_LAYER;
    struct Row {
        int line;
        const char* name;
        const char* role;
        uint16_t layer, expert;
    };
    const Row rows[] = {
        {__LINE__, "token_embd.weight", "embedding", none, none},
        {__LINE__, "token_embd_norm.weight", "norm", none, none},
        {__LINE__, "per_layer_token_embd.weight", "embedding", none, none},
        {__LINE__, "output.weight", "head", none, none},
        {__LINE__, "output_norm.weight", "norm", none, none},
        {__LINE__, "rope_freqs.weight", "other", none, none},
        {__LINE__, "blk.3.attn_q.weight", "attention", 3, none},
        {__LINE__, "blk.3.attn_q_norm.weight", "norm", 3, none},
        {__LINE__, "blk.3.attn_kv_a_mqa.weight", "attention", 3, none},
        {__LINE__, "blk.3.post_attention_norm.weight", "norm", 3, none},
        {__LINE__, "blk.11.ffn_up.weight", "feed_forward", 11, none},
        {__LINE__, "blk.11.ffn_gate_inp.weight", "router", 11, none},
        {__LINE__, "blk.11.ffn_gate_inp_shexp.weight", "router", 11, none},
        {__LINE__, "blk.11.exp_probs_b.bias", "router", 11, none},
        {__LINE__, "blk.11.ffn_gate_up_exps.weight", "expert", 11, none},
        {__LINE__, "blk.11.ffn_up_exps.weight[17]", "expert", 11, 17},
        {__LINE__, "blk.11.ffn_down_shexp.weight", "feed_forward", 11, none},
        {__LINE__, "blk.11.ffn_norm_exps.weight", "norm", 11, none},
        {__LINE__, "blk.11.ffn_down.5.weight", "expert", 11, 5},
        {__LINE__, "blk.11.ssm_out.weight", "attention", 11, none},
        {__LINE__, "v.blk.4.attn_q.weight", "attention", none, none},
        {__LINE__, "model.embed_tokens.weight", "embedding", none, none},
        {__LINE__, "lm_head.weight", "head", none, none},
        {__LINE__, "embed_out.weight", "head", none, none},
        {__LINE__, "model.norm.weight", "norm", none, none},
        {__LINE__, "model.layers.7.self_attn.q_proj.weight", "attention", 7, none},
        {__LINE__, "model.layers.7.linear_attn.in_proj_qkvz.weight", "attention", 7, none},
        {__LINE__, "model.layers.7.input_layernorm.weight", "norm", 7, none},
        {__LINE__, "model.layers.7.mlp.down_proj.weight", "feed_forward", 7, none},
        {__LINE__, "model.layers.7.mlp.gate.weight", "router", 7, none},
        {__LINE__, "model.layers.7.mlp.gate.e_score_correction_bias", "router", 7, none},
        {__LINE__, "model.layers.7.mlp.gate_proj.weight", "feed_forward", 7, none},
        {__LINE__, "model.layers.7.mlp.router.weight", "router", 7, none},
        {__LINE__, "model.layers.7.mlp.experts.17.up_proj.weight", "expert", 7, 17},
        {__LINE__, "model.layers.7.mlp.experts.down_proj", "expert", 7, none},
        {__LINE__, "model.layers.7.mlp.experts.down_proj[255]", "expert", 7, 255},
        {__LINE__, "model.layers.7.mlp.shared_expert.up_proj.weight", "feed_forward", 7, none},
        {__LINE__, "model.layers.7.mlp.shared_experts.up_proj.weight", "feed_forward", 7, none},
        {__LINE__, "model.layers.7.mlp.shared_expert_gate.weight", "router", 7, none},
        {__LINE__, "model.layers.7.block_sparse_moe.gate.weight", "router", 7, none},
        {__LINE__, "model.layers.7.block_sparse_moe.experts.3.w1.weight", "expert", 7, 3},
        {__LINE__, "model.vision_tower.encoder.layers.2.self_attn.k_proj.weight", "attention", none, none},
        {__LINE__, "transformer.h.1.ln_1.weight", "norm", 1, none},
        {__LINE__, "transformer.h.1.mlp.c_fc.weight", "feed_forward", 1, none},
        {__LINE__, "transformer.wte.weight", "embedding", none, none},
        {__LINE__, "embeddings.LayerNorm.weight", "norm", none, none},
        {__LINE__, "embeddings.word_embeddings.weight", "embedding", none, none},
        {__LINE__, "encoder.layer.5.attention.self.query.weight", "attention", 5, none},
        {__LINE__, "encoder.layer.5.attention.output.LayerNorm.weight", "norm", 5, none},
        {__LINE__, "encoder.layer.5.intermediate.dense.weight", "feed_forward", 5, none},
        {__LINE__, "encoder.layer.5.output.dense.weight", "feed_forward", 5, none},
        {__LINE__, "pooler.dense.weight", "other", none, none},
        {__LINE__, "blk.65534.attn_q.weight", "attention", 65534, none},
        {__LINE__, "blk.65535.attn_q.weight", "attention", none, none},
        {__LINE__, "blk.99999999999999999999.attn_q.weight", "attention", none, none},
        {__LINE__, "blk.-1.attn_q.weight", "attention", none, none},
        {__LINE__, "blk", "other", none, none},
        {__LINE__, "...", "other", none, none},
        {__LINE__, "experts.", "expert", none, none},
        {__LINE__, "experts.x[]", "expert", none, none},
    };
    for (const Row& row : rows) {
        Tensor tensor;
        tensor.name = row.name;
        classify_tensor(tensor);
        BOOST_TEST_CONTEXT("row of line " << row.line << ": " << row.name) {
            BOOST_TEST(role_name(tensor.role) == row.role);
            BOOST_TEST(tensor.layer == row.layer);
            BOOST_TEST(tensor.expert == row.expert);
        }
    }
}

BOOST_AUTO_TEST_CASE(every_role_has_a_name_and_anything_else_is_other) {
    for (int role = 1; role < NR_TIERD_ROLES; ++role) BOOST_TEST(role_name(uint8_t(role)) != "other");
    BOOST_TEST(role_name(TIERD_ROLE_OTHER) == "other");
    BOOST_TEST(role_name(200) == "other");
}

BOOST_AUTO_TEST_CASE(an_extent_is_labelled_by_what_has_the_most_bytes_in_it) {
    auto tensor = [](uint64_t begin, uint64_t end, uint8_t role, uint16_t layer,
                     uint16_t expert = TIERD_NO_EXPERT) {
        Tensor made;
        made.begin_bytes = begin;
        made.end_bytes = end;
        made.role = role;
        made.layer = layer;
        made.expert = expert;
        return made;
    };
    TensorMap map;
    map.tensors = {
        tensor(90, 250, TIERD_ROLE_EMBEDDING,
               TIERD_NO_LAYER),  // 10 bytes in extent 0, all of 1, 50 bytes in 2
        tensor(250, 260, TIERD_ROLE_NORM, 0),
        tensor(260, 300, TIERD_ROLE_ATTENTION, 0),
        tensor(300, 300, TIERD_ROLE_HEAD, 9),          // empty: never a label
        tensor(300, 340, TIERD_ROLE_EXPERT, 1, 0),     // extent 3: 40 bytes of one expert,
        tensor(340, 365, TIERD_ROLE_EXPERT, 1, 1),     // but 25 + 25 of another
        tensor(365, 375, TIERD_ROLE_NORM, 1),          //
        tensor(375, 400, TIERD_ROLE_EXPERT, 1, 1),     //
        tensor(500, 550, TIERD_ROLE_ATTENTION, 2),     // extent 5: equal halves, the first one wins
        tensor(550, 600, TIERD_ROLE_FEED_FORWARD, 2),  //
    };
    std::vector<ExtentLabel> labels = label_extents(map, ExtentLayout::even(610, 100));
    BOOST_REQUIRE_EQUAL(labels.size(), 7u);
    BOOST_TEST(role_name(labels[0].role) == "embedding");
    BOOST_TEST(role_name(labels[1].role) == "embedding");
    BOOST_TEST(role_name(labels[2].role) == "embedding");
    BOOST_TEST(labels[2].layer == TIERD_NO_LAYER);
    BOOST_TEST(role_name(labels[3].role) == "expert");
    BOOST_TEST(labels[3].layer == 1);
    BOOST_TEST(labels[3].expert == 1);
    BOOST_TEST(role_name(labels[4].role) == "other");
    BOOST_TEST(role_name(labels[5].role) == "attention");
    BOOST_TEST(labels[5].layer == 2);
    BOOST_TEST(role_name(labels[6].role) == "other");
    BOOST_TEST(label_extents(TensorMap(), ExtentLayout::even(0, 100)).empty());
    BOOST_TEST(label_extents(TensorMap(), ExtentLayout::even(101, 100)).size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
