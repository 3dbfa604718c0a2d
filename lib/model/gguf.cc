#include "lib/model/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <optional>
#include <string_view>
#include <tuple>

#include "lib/base/bytes.h"

namespace tierd {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied out of the file as they lie");

constexpr uint64_t kMaxKeys = 1 << 16;        // real models have about 50
constexpr uint64_t kMaxKeyBytes = 65535;      // the format's own limit
constexpr uint32_t kMaxDimensions = 8;        // ggml itself has 4
constexpr int kMaxArrayDepth = 4;             // real models have 1
constexpr uint64_t kDefaultAlignment = 32;    // where general.alignment is missing
constexpr uint64_t kMinTensorInfoBytes = 24;  // name length, dimension count, type, offset
constexpr uint64_t kMinKeyBytes = 13;         // key length, type, one byte of value
constexpr uint64_t kUnknownEnd = UINT64_MAX;

// Metadata value types.
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

struct ElementType {
    const char* name;      // nullptr: a number that no type has
    uint32_t block;        // elements in a block
    uint32_t block_bytes;  // bytes of a block
};

// clang-format off
// By ggml type number. Types that were withdrawn, or came after this table, have an end that is inferred.
constexpr ElementType kElementTypes[] = {
    /*  0 */ {"F32", 1, 4},        {"F16", 1, 2},        {"Q4_0", 32, 18},     {"Q4_1", 32, 20},
    /*  4 */ {nullptr, 0, 0},      {nullptr, 0, 0},      {"Q5_0", 32, 22},     {"Q5_1", 32, 24},
    /*  8 */ {"Q8_0", 32, 34},     {"Q8_1", 32, 36},     {"Q2_K", 256, 84},    {"Q3_K", 256, 110},
    /* 12 */ {"Q4_K", 256, 144},   {"Q5_K", 256, 176},   {"Q6_K", 256, 210},   {"Q8_K", 256, 292},
    /* 16 */ {"IQ2_XXS", 256, 66}, {"IQ2_XS", 256, 74},  {"IQ3_XXS", 256, 98}, {"IQ1_S", 256, 50},
    /* 20 */ {"IQ4_NL", 32, 18},   {"IQ3_S", 256, 110},  {"IQ2_S", 256, 82},   {"IQ4_XS", 256, 136},
    /* 24 */ {"I8", 1, 1},         {"I16", 1, 2},        {"I32", 1, 4},        {"I64", 1, 8},
    /* 28 */ {"F64", 1, 8},        {"IQ1_M", 256, 56},   {"BF16", 1, 2},       {nullptr, 0, 0},
    /* 32 */ {nullptr, 0, 0},      {nullptr, 0, 0},      {"TQ1_0", 256, 54},   {"TQ2_0", 256, 66},
    /* 36 */ {nullptr, 0, 0},      {nullptr, 0, 0},      {nullptr, 0, 0},      {"MXFP4", 32, 17},
    /* 40 */ {"NVFP4", 64, 36},    {"Q1_0", 128, 18},    {"Q2_0", 64, 18},
};

// Bytes of a metadata value, by its type; 0 for strings and arrays, which say their own length.
constexpr uint64_t kValueBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
// clang-format on

// Walks the header once. The first failure is kept in error_; every read after it yields nothing, so loops
// only have to look at failed() to end.
class GgufReader {
  public:
    GgufReader(HeaderBytes& header, uint64_t file_bytes) : header_(header), file_bytes_(file_bytes) {}

    Result<TensorMap> read();

  private:
    bool failed() const { return error_.has_value(); }
    void refuse(std::string what);
    bool skip(uint64_t bytes);
    const char* take(uint64_t bytes);
    template <class T>
    T number();
    void skip_string() { skip(number<uint64_t>()); }
    std::string name(const char* what, uint64_t max_bytes);
    bool fits(uint64_t count, uint64_t each_bytes, const char* what);

    void version();
    void metadata(uint64_t count);
    void value(std::string_view key, uint32_t type);
    uint64_t integer(std::string_view key, uint32_t type);
    void skip_value(uint32_t type);
    void skip_array(int depth);
    void tensors(uint64_t count);
    Tensor tensor_info();
    void place_tensors();

    HeaderBytes& header_;
    uint64_t file_bytes_;
    uint64_t at_bytes_ = 0;
    uint64_t alignment_ = kDefaultAlignment;
    uint64_t split_tensors_ = UINT64_MAX;  // tensors in all parts of a split model
    TensorMap map_;
    std::optional<Error> error_;
};

void GgufReader::refuse(std::string what) {
    if (failed()) return;
    error_ = fail(Code::bad_input, "parse gguf header", fmt::format("at byte {}: {}", at_bytes_, what),
                  "the file is damaged or of a newer kind: fetch it again, or serve it without a tensor map")
                 .error();
}

// Steps over the next `bytes` without looking at them; false after a failure.
bool GgufReader::skip(uint64_t bytes) {
    if (!failed() && bytes > header_.limit() - at_bytes_) {
        refuse(fmt::format("{} bytes are announced, {} are left", bytes, header_.limit() - at_bytes_));
    }
    if (failed()) return false;
    at_bytes_ += bytes;
    return true;
}

// Returns the next `bytes`, valid until the next call, and steps over them; nullptr after a failure.
const char* GgufReader::take(uint64_t bytes) {
    uint64_t here = at_bytes_;
    if (!skip(bytes)) return nullptr;
    auto view = header_.view(here, bytes);
    if (view) return *view;
    error_ = std::move(view.error());
    return nullptr;
}

template <class T>
T GgufReader::number() {
    T value{};
    if (const char* here = take(sizeof value)) std::memcpy(&value, here, sizeof value);
    return value;
}

std::string GgufReader::name(const char* what, uint64_t max_bytes) {
    auto bytes = number<uint64_t>();
    if (!failed() && (bytes == 0 || bytes > max_bytes)) {
        refuse(fmt::format("a {} of {} bytes, expected 1 to {}", what, bytes, max_bytes));
    }
    const char* text = take(bytes);
    if (text != nullptr && !is_plain_text(text, bytes))
        refuse(fmt::format("a {} that is not plain UTF-8", what));
    return failed() ? std::string() : std::string(text, bytes);
}

// Refuses a count whose things can't lie in what is left of the header, before anything is done for each.
bool GgufReader::fits(uint64_t count, uint64_t each_bytes, const char* what) {
    if (!failed() && count > (header_.limit() - at_bytes_) / each_bytes) {
        refuse(fmt::format("{} {} are announced, more than the header can hold", count, what));
    }
    return !failed();
}

void GgufReader::version() {
    auto magic = number<uint32_t>();
    auto version = number<uint32_t>();
    if (failed() || (magic == kGgufMagic && (version == 2 || version == 3))) return;
    if (version == std::byteswap(uint32_t{2}) || version == std::byteswap(uint32_t{3})) {
        refuse("the file is big-endian; convert it to little-endian");
    } else {
        refuse(fmt::format("version {} is not known, only 2 and 3 are", version));
    }
}

Result<TensorMap> GgufReader::read() {
    map_.format = WeightFormat::gguf;
    version();
    auto tensor_count = number<uint64_t>();
    auto key_count = number<uint64_t>();
    if (!failed() && tensor_count > kMaxTensors) {
        refuse(fmt::format("{} tensors are announced, more than {}", tensor_count, kMaxTensors));
    }
    if (!failed() && key_count > kMaxKeys) {
        refuse(fmt::format("{} metadata keys are announced, more than {}", key_count, kMaxKeys));
    }
    if (fits(key_count, kMinKeyBytes, "metadata keys")) metadata(key_count);
    if (fits(tensor_count, kMinTensorInfoBytes, "tensors")) tensors(tensor_count);
    if (!failed()) place_tensors();
    if (failed()) return std::unexpected(std::move(*error_));
    return std::move(map_);
}

void GgufReader::metadata(uint64_t count) {
    std::vector<std::string> keys;
    for (uint64_t i = 0; i < count && !failed(); ++i) {
        std::string key = name("metadata key", kMaxKeyBytes);
        auto type = number<uint32_t>();
        if (!failed()) value(key, type);
        keys.push_back(std::move(key));
    }
    if (failed()) return;
    std::ranges::sort(keys);
    if (auto twice = std::ranges::adjacent_find(keys); twice != keys.end()) {
        refuse(fmt::format("metadata key '{}' is there twice", *twice));
    } else if (map_.split_count == 0 || map_.split_index >= map_.split_count) {
        refuse(fmt::format("part {} of a model in {} parts", map_.split_index, map_.split_count));
    }
}

void GgufReader::value(std::string_view key, uint32_t type) {
    if (key == "general.architecture" && type == kString) {
        map_.architecture = name("architecture", kMaxTensorNameBytes);
    } else if (key == "general.alignment") {
        alignment_ = integer(key, type);
        if (!failed() && (!std::has_single_bit(alignment_) || alignment_ > kMaxHeaderBytes)) {
            refuse(fmt::format("general.alignment is {}, not a power of two", alignment_));
        }
    } else if (key == "split.no" || key == "split.count") {
        uint64_t part = integer(key, type);
        if (part > UINT16_MAX) refuse(fmt::format("{} is {}", key, part));
        (key == "split.no" ? map_.split_index : map_.split_count) = static_cast<uint16_t>(part);
    } else if (key == "split.tensors.count") {
        split_tensors_ = integer(key, type);
    } else {
        skip_value(type);
    }
}

// A whole number that is not negative, whatever its width: converters don't agree on the widths.
uint64_t GgufReader::integer(std::string_view key, uint32_t type) {
    int64_t value = -1;
    switch (type) {
        case 0:
            return number<uint8_t>();
        case 1:
            value = number<int8_t>();
            break;
        case 2:
            return number<uint16_t>();
        case 3:
            value = number<int16_t>();
            break;
        case 4:
            return number<uint32_t>();
        case 5:
            value = number<int32_t>();
            break;
        case 10:
            return number<uint64_t>();
        case 11:
            value = number<int64_t>();
            break;
        default:
            break;
    }
    if (value < 0) refuse(fmt::format("{} is not a whole number", key));
    return static_cast<uint64_t>(value);
}

void GgufReader::skip_value(uint32_t type) {
    if (type >= std::size(kValueBytes)) {
        refuse(fmt::format("metadata type {} is not known", type));
    } else if (type == kString) {
        skip_string();
    } else if (type == kArray) {
        skip_array(1);
    } else {
        skip(kValueBytes[type]);
    }
}

void GgufReader::skip_array(int depth) {
    auto type = number<uint32_t>();
    auto count = number<uint64_t>();
    if (failed()) return;
    if (type >= std::size(kValueBytes)) return refuse(fmt::format("array type {} is not known", type));
    if (depth > kMaxArrayDepth)
        return refuse(fmt::format("arrays are nested more than {} deep", kMaxArrayDepth));
    // A string costs at least its length, an array at least its type and its count.
    uint64_t each_bytes = type == kString ? 8 : type == kArray ? 12 : kValueBytes[type];
    if (!fits(count, each_bytes, "array elements")) return;
    if (type == kString) {
        for (uint64_t i = 0; i < count && !failed(); ++i) skip_string();
    } else if (type == kArray) {
        for (uint64_t i = 0; i < count && !failed(); ++i) skip_array(depth + 1);
    } else {
        skip(count * each_bytes);
    }
}

void GgufReader::tensors(uint64_t count) {
    if (count > split_tensors_) {
        return refuse(fmt::format("{} tensors in a part of a model of {}", count, split_tensors_));
    }
    for (uint64_t i = 0; i < count && !failed(); ++i) map_.tensors.push_back(tensor_info());
}

// One tensor; begin_bytes is still relative to the data, end_bytes is the length or kUnknownEnd.
Tensor GgufReader::tensor_info() {
    Tensor tensor;
    tensor.name = name("tensor name", kMaxTensorNameBytes);
    auto dimensions = number<uint32_t>();
    if (dimensions > kMaxDimensions)
        refuse(fmt::format("tensor '{}' has {} dimensions", tensor.name, dimensions));
    uint64_t elements = 1;
    for (uint32_t i = 0; i < dimensions && !failed(); ++i) {
        tensor.shape.push_back(number<uint64_t>());
        if (__builtin_mul_overflow(elements, tensor.shape.back(), &elements)) {
            refuse(fmt::format("the shape of tensor '{}' overflows", tensor.name));
        }
    }
    auto type = number<uint32_t>();
    tensor.begin_bytes = number<uint64_t>();
    tensor.end_bytes = kUnknownEnd;
    if (failed()) return tensor;
    if (type >= std::size(kElementTypes) || kElementTypes[type].name == nullptr) {
        tensor.dtype = fmt::format("type {}", type);
    } else {
        const ElementType& element = kElementTypes[type];
        tensor.dtype = element.name;
        uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.front();
        if (row % element.block != 0) {
            refuse(fmt::format("tensor '{}' has rows of {}, not whole blocks of {}", tensor.name, row,
                               element.name));
        } else if (__builtin_mul_overflow(elements / element.block, element.block_bytes, &tensor.end_bytes)) {
            refuse(fmt::format("the size of tensor '{}' overflows", tensor.name));
        }
    }
    std::ranges::reverse(tensor.shape);  // the file has the innermost dimension first
    return tensor;
}

// Turns relative offsets into offsets in the file. A tensor of unknown type ends where the next one begins.
void GgufReader::place_tensors() {
    uint64_t data_begin = std::min(round_up(at_bytes_, alignment_), file_bytes_);
    map_.data_begin_bytes = data_begin;
    std::ranges::sort(map_.tensors, [](const Tensor& a, const Tensor& b) {
        return std::tie(a.begin_bytes, a.end_bytes, a.name) < std::tie(b.begin_bytes, b.end_bytes, b.name);
    });
    uint64_t next_bytes = file_bytes_ - data_begin;
    for (auto tensor = map_.tensors.rbegin(); tensor != map_.tensors.rend() && !failed(); ++tensor) {
        uint64_t offset = tensor->begin_bytes;
        uint64_t length =
            tensor->end_bytes == kUnknownEnd ? next_bytes - std::min(offset, next_bytes) : tensor->end_bytes;
        if (offset % alignment_ != 0) {
            refuse(fmt::format("tensor '{}' lies at {}, not a multiple of {}", tensor->name, offset,
                               alignment_));
        } else if (offset > file_bytes_ - data_begin || length > file_bytes_ - data_begin - offset) {
            refuse(fmt::format("tensor '{}' reaches past the end of the file", tensor->name));
        }
        tensor->begin_bytes = data_begin + offset;
        tensor->end_bytes = tensor->begin_bytes + length;
        next_bytes = offset;
    }
}

}  // namespace

Result<TensorMap> parse_gguf(HeaderBytes& header, uint64_t file_bytes) {
    return GgufReader(header, file_bytes).read();
}

}  // namespace tierd
