#include "lib/model/safetensors.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace tierd {
namespace {

constexpr uint64_t kLengthBytes = 8;              // the length of the JSON, little endian, comes first
constexpr uint64_t kMaxStringBytes = 4ull << 20;  // training logs in __metadata__ reach about 1 MiB
constexpr uint64_t kMaxJsonValues = 1ull << 24;   // about ten for each of kMaxTensors
constexpr uint32_t kMaxDepth = 8;                 // of a value that is skipped; the format itself has 3
constexpr size_t kMaxDimensions = 16;
constexpr size_t kMaxDtypeBytes = 32;
constexpr const char* kHint = "the file is cut or damaged: fetch it again, or serve it without a tensor map";

struct Dtype {
    std::string_view name;
    uint32_t bits;
};

constexpr Dtype kDtypes[] = {
    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16}, {"F16", 16}, {"BF16", 16}, {"I32", 32},
    {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64}, {"I64", 64}, {"U64", 64},
};

std::unexpected<Error> refused(std::string what) {
    return fail(Code::bad_input, "parse safetensors header", std::move(what), kHint);
}

// Takes the JSON's events one by one and keeps only the tensor being read and those that are finished. The
// first failure is kept; the parser stops at it.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
  public:
    explicit HeaderEvents(uint64_t data_begin_bytes, uint64_t file_bytes)
        : data_begin_bytes_(data_begin_bytes), data_bytes_(file_bytes - data_begin_bytes) {}

    std::vector<Tensor> tensors;
    std::optional<Error> error;

    bool null() override { return other_value(); }
    bool boolean(bool) override { return other_value(); }
    bool number_integer(number_integer_t) override { return other_value(); }
    bool number_float(number_float_t, const string_t&) override { return other_value(); }
    bool binary(binary_t&) override { return other_value(); }
    bool number_unsigned(number_unsigned_t value) override;
    bool string(string_t& text) override;
    bool start_object(size_t) override;
    bool key(string_t& text) override;
    bool end_object() override;
    bool start_array(size_t) override;
    bool end_array() override;
    bool parse_error(size_t position, const std::string& token,
                     const nlohmann::json::exception& why) override;

  private:
    enum class In { nothing, header, metadata, tensor, shape, offsets };
    enum Field : unsigned { none = 0, dtype = 1, shape = 2, offsets = 4, ignored = 8 };

    bool refuse(const std::string& what);
    bool counted();
    bool other_value();
    bool start_skipped();
    bool finish_tensor();

    const uint64_t data_begin_bytes_;
    const uint64_t data_bytes_;
    In in_ = In::nothing;
    uint32_t skipped_depth_ = 0;  // open brackets of a value that is skipped
    unsigned field_ = none;       // the field of a tensor whose value comes next
    unsigned seen_ = none;        // the fields of the tensor that were there
    bool metadata_next_ = false;
    uint64_t values_ = 0;
    Tensor tensor_;
    std::vector<uint64_t> range_;
};

bool HeaderEvents::refuse(const std::string& what) {
    std::string where = tensor_.name.empty() ? "" : fmt::format("tensor '{}': ", tensor_.name);
    if (!error) error = refused(where + what).error();
    return false;
}

bool HeaderEvents::counted() {
    return ++values_ <= kMaxJsonValues || refuse(fmt::format("it has more than {} values", kMaxJsonValues));
}

// Everything that no field of the format takes; harmless only inside what is skipped.
bool HeaderEvents::other_value() {
    if (!counted()) return false;
    if (skipped_depth_ > 0 || (in_ == In::tensor && field_ == ignored)) return true;
    return refuse("a value of the wrong kind");
}

bool HeaderEvents::number_unsigned(number_unsigned_t value) {
    if (skipped_depth_ > 0 || (in_ != In::shape && in_ != In::offsets)) return other_value();
    std::vector<uint64_t>& list = in_ == In::shape ? tensor_.shape : range_;
    if (list.size() >= (in_ == In::shape ? kMaxDimensions : 2)) return refuse("a list that is too long");
    list.push_back(value);
    return counted();
}

bool HeaderEvents::string(string_t& text) {
    if (skipped_depth_ > 0) return counted();
    if (in_ == In::metadata || (in_ == In::tensor && field_ == ignored)) return counted();
    if (in_ != In::tensor || field_ != dtype) return other_value();
    if (text.empty() || text.size() > kMaxDtypeBytes) return refuse("a dtype that is empty or too long");
    if (!is_plain_text(text.data(), text.size())) return refuse("a dtype with control characters");
    tensor_.dtype = text;
    return counted();
}

bool HeaderEvents::start_skipped() {
    return ++skipped_depth_ <= kMaxDepth ? counted()
                                         : refuse(fmt::format("nested more than {} deep", kMaxDepth));
}

bool HeaderEvents::start_object(size_t) {
    if (skipped_depth_ > 0 || (in_ == In::tensor && field_ == ignored)) return start_skipped();
    if (in_ == In::nothing) {
        in_ = In::header;
    } else if (in_ == In::header) {
        in_ = metadata_next_ ? In::metadata : In::tensor;
        seen_ = none;
    } else {
        return refuse("an object where none belongs");
    }
    return counted();
}

bool HeaderEvents::key(string_t& text) {
    if (skipped_depth_ > 0 || in_ == In::metadata) return counted();
    if (in_ == In::header) {
        tensor_ = Tensor();
        range_.clear();
        metadata_next_ = text == "__metadata__";
        if (metadata_next_) return counted();
        if (text.empty() || text.size() > kMaxTensorNameBytes) {
            return refuse(
                fmt::format("a tensor name of {} bytes, expected 1 to {}", text.size(), kMaxTensorNameBytes));
        }
        if (!is_plain_text(text.data(), text.size())) return refuse("a tensor name with control characters");
        if (tensors.size() >= kMaxTensors)
            return refuse(fmt::format("it has more than {} tensors", kMaxTensors));
        tensor_.name = text;
        return counted();
    }
    field_ = text == "dtype" ? dtype : text == "shape" ? shape : text == "data_offsets" ? offsets : ignored;
    if (field_ != ignored && (seen_ & field_) != 0) return refuse(fmt::format("'{}' is there twice", text));
    seen_ |= field_;
    return counted();
}

bool HeaderEvents::end_object() {
    if (skipped_depth_ > 0) {
        --skipped_depth_;
        return true;
    }
    if (in_ == In::tensor) {
        in_ = In::header;
        return finish_tensor();
    }
    in_ = in_ == In::metadata ? In::header : In::nothing;
    return true;
}

bool HeaderEvents::start_array(size_t) {
    if (skipped_depth_ > 0 || (in_ == In::tensor && field_ == ignored)) return start_skipped();
    if (in_ != In::tensor || (field_ != shape && field_ != offsets))
        return refuse("a list where none belongs");
    in_ = field_ == shape ? In::shape : In::offsets;
    return counted();
}

bool HeaderEvents::end_array() {
    if (skipped_depth_ > 0) {
        --skipped_depth_;
    } else {
        in_ = In::tensor;
    }
    return true;
}

bool HeaderEvents::parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
    // The library's own text would quote the damaged bytes, which may be anything.
    return refuse(fmt::format("byte {} is not valid JSON in UTF-8", kLengthBytes + position));
}

bool HeaderEvents::finish_tensor() {
    if ((seen_ & (dtype | shape | offsets)) != (dtype | shape | offsets)) {
        return refuse("dtype, shape or data_offsets is missing");
    }
    if (range_.size() != 2 || range_[0] > range_[1]) return refuse("data_offsets is not a range");
    if (range_[1] > data_bytes_) {
        return refuse(fmt::format("it ends at byte {} of {} bytes of data", range_[1], data_bytes_));
    }
    uint64_t elements = 1;
    for (uint64_t dimension : tensor_.shape) {
        if (__builtin_mul_overflow(elements, dimension, &elements)) return refuse("its shape overflows");
    }
    for (const Dtype& known : kDtypes) {
        if (known.name != tensor_.dtype) continue;
        uint64_t bits = 0;
        if (__builtin_mul_overflow(elements, known.bits, &bits)) return refuse("its size overflows");
        if (bits % 8 != 0 || bits / 8 != range_[1] - range_[0]) {
            return refuse(fmt::format("{} bytes of data, but dtype and shape make {} bits",
                                      range_[1] - range_[0], bits));
        }
    }
    tensor_.begin_bytes = data_begin_bytes_ + range_[0];
    tensor_.end_bytes = data_begin_bytes_ + range_[1];
    tensors.push_back(std::move(tensor_));
    tensor_ = Tensor();
    return true;
}

// The JSON library buffers a whole string (more than once) before it hands it over, so long ones are refused
// first.
bool has_long_string(std::string_view json) {
    size_t begin = 0;
    bool inside = false;
    for (size_t i = 0; i < json.size(); ++i) {
        if (inside && json[i] == '\\') {
            ++i;
        } else if (json[i] == '"') {
            if (inside && i - begin > kMaxStringBytes) return true;
            inside = !inside;
            begin = i;
        }
    }
    return inside && json.size() - begin > kMaxStringBytes;
}

}  // namespace

Result<TensorMap> parse_safetensors(HeaderBytes& header, uint64_t file_bytes) {
    auto length = header.view(0, kLengthBytes);
    if (!length) return std::unexpected(length.error());
    uint64_t json_bytes = 0;
    std::memcpy(&json_bytes, *length, sizeof json_bytes);
    if (json_bytes > header.limit() - kLengthBytes) {
        return refused(fmt::format("a header of {} bytes is announced, {} are there or allowed", json_bytes,
                                   header.limit() - kLengthBytes));
    }
    auto text = header.view(kLengthBytes, json_bytes);
    if (!text) return std::unexpected(text.error());
    std::string_view json(*text, json_bytes);
    if (has_long_string(json))
        return refused(fmt::format("a string is longer than {} bytes", kMaxStringBytes));

    TensorMap map;
    map.format = WeightFormat::safetensors;
    map.data_begin_bytes = kLengthBytes + json_bytes;
    HeaderEvents events(map.data_begin_bytes, file_bytes);
    bool complete = nlohmann::json::sax_parse(json.begin(), json.end(), &events);
    if (events.error) return std::unexpected(std::move(*events.error));
    if (!complete) return refused("it is not a JSON object");
    map.tensors = std::move(events.tensors);
    return map;
}

}  // namespace tierd
