#include "lib/model/tensor_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "lib/model/gguf.h"
#include "lib/model/header_bytes.h"
#include "lib/model/safetensors.h"

namespace tierd {
namespace {

// A length and the '{' of the JSON object: what a safetensors file begins with, having no magic number.
constexpr uint64_t kSignatureBytes = 9;

std::unexpected<Error> damaged(std::string what) {
    return fail(Code::bad_input, "check tensor map", std::move(what),
                "the file is damaged: fetch it again, or serve it without a tensor map");
}

// Stacked tensors have the experts as their outermost dimension. Biases (two dimensions) are too small to
// tell apart, and two dimensions may also be experts * rows in one.
bool is_stack(const Tensor& tensor) {
    if (tensor.role != TIERD_ROLE_EXPERT || tensor.expert != TIERD_NO_EXPERT || tensor.shape.size() < 3)
        return false;
    bool named =
        tensor.name.find("_exps.") != std::string::npos || tensor.name.find("experts.") != std::string::npos;
    uint64_t experts = tensor.shape.front();
    uint64_t bytes = tensor.end_bytes - tensor.begin_bytes;
    return named && experts > 0 && experts < TIERD_NO_EXPERT && bytes % experts == 0;
}

void append_parts(std::vector<Tensor>& tensors, const Tensor& whole) {
    uint64_t parts = whole.shape.front();
    uint64_t part_bytes = (whole.end_bytes - whole.begin_bytes) / parts;
    Tensor part = whole;
    part.shape.erase(part.shape.begin());
    for (uint64_t i = 0; i < parts; ++i) {
        part.name = fmt::format("{}[{}]", whole.name, i);
        part.expert = static_cast<uint16_t>(i);
        part.begin_bytes = whole.begin_bytes + i * part_bytes;
        part.end_bytes = part.begin_bytes + part_bytes;
        tensors.push_back(part);
    }
}

// Classifies every tensor and puts the experts of stacked ones in their place.
Result<void> split_stacks(TensorMap& map) {
    uint64_t count = 0;
    uint64_t name_bytes = 0;
    for (Tensor& tensor : map.tensors) {
        classify_tensor(tensor);
        uint64_t parts = is_stack(tensor) ? tensor.shape.front() : 1;
        count += parts;
        if (parts > 1) name_bytes += parts * tensor.name.size();
    }
    if (count > kMaxTensors)
        return damaged(fmt::format("experts make {} tensors, more than {}", count, kMaxTensors));
    if (name_bytes > kMaxAllNamesBytes) return damaged("the names of the experts are too long");
    if (count == map.tensors.size() && std::ranges::none_of(map.tensors, is_stack)) return {};
    std::vector<Tensor> split;
    split.reserve(count);
    for (Tensor& tensor : map.tensors) {
        if (is_stack(tensor)) {
            append_parts(split, tensor);
        } else {
            split.push_back(std::move(tensor));
        }
    }
    map.tensors = std::move(split);
    return {};
}

Result<void> check_names(const TensorMap& map) {
    std::vector<std::string_view> names;
    names.reserve(map.tensors.size());
    for (const Tensor& tensor : map.tensors) names.push_back(tensor.name);
    std::ranges::sort(names);
    auto twice = std::ranges::adjacent_find(names);
    if (twice != names.end()) return damaged(fmt::format("tensor '{}' is there twice", *twice));
    return {};
}

// Puts the tensors of either format in order, makes sure of the map's invariant and splits the stacks.
Result<TensorMap> finish(TensorMap map, uint64_t file_bytes) {
    std::ranges::sort(map.tensors, [](const Tensor& a, const Tensor& b) {
        return std::tie(a.begin_bytes, a.end_bytes, a.name) < std::tie(b.begin_bytes, b.end_bytes, b.name);
    });
    uint64_t taken_bytes = map.data_begin_bytes;
    for (const Tensor& tensor : map.tensors) {
        if (tensor.begin_bytes < taken_bytes) {
            return damaged(fmt::format("tensor '{}' overlaps what lies before it", tensor.name));
        }
        if (tensor.end_bytes < tensor.begin_bytes || tensor.end_bytes > file_bytes) {
            return damaged(fmt::format("tensor '{}' reaches past the end of the file", tensor.name));
        }
        taken_bytes = tensor.end_bytes;
    }
    if (auto unique = check_names(map); !unique) return std::unexpected(unique.error());
    if (auto split = split_stacks(map); !split) return std::unexpected(split.error());
    for (const Tensor& tensor : map.tensors) {
        if (tensor.layer != TIERD_NO_LAYER) map.layers = std::max<uint16_t>(map.layers, tensor.layer + 1);
        if (tensor.expert != TIERD_NO_EXPERT)
            map.experts = std::max<uint16_t>(map.experts, tensor.expert + 1);
    }
    return map;
}

Result<WeightFormat> detect(HeaderBytes& header) {
    auto signature = header.view(0, std::min(kSignatureBytes, header.limit()));
    if (!signature) return std::unexpected(signature.error());
    uint32_t magic = 0;
    if (header.limit() >= sizeof magic) std::memcpy(&magic, *signature, sizeof magic);
    if (magic == kGgufMagic) return WeightFormat::gguf;
    bool object = header.limit() >= kSignatureBytes && (*signature)[kSignatureBytes - 1] == '{';
    return object ? WeightFormat::safetensors : WeightFormat::plain;
}

Result<TensorMap> parse(HeaderBytes header, uint64_t file_bytes) {
    auto format = detect(header);
    if (!format) return std::unexpected(format.error());
    if (*format == WeightFormat::plain) return TensorMap();
    auto map = *format == WeightFormat::gguf ? parse_gguf(header, file_bytes)
                                             : parse_safetensors(header, file_bytes);
    if (!map) return map;
    return finish(std::move(*map), file_bytes);
}

bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Cuts "-00002-of-00007" from the end of a name; leaves any other name as it is.
std::string_view without_part(std::string_view stem) {
    size_t of = stem.rfind("-of-");
    if (of == std::string_view::npos || !is_number(stem.substr(of + 4))) return stem;
    size_t part = stem.rfind('-', of - 1);
    if (of == 0 || part == std::string_view::npos || !is_number(stem.substr(part + 1, of - part - 1)))
        return stem;
    return stem.substr(0, part);
}

}  // namespace

const char* format_name(WeightFormat format) noexcept {
    switch (format) {
        case WeightFormat::plain:
            return "plain";
        case WeightFormat::safetensors:
            return "safetensors";
        case WeightFormat::gguf:
            return "gguf";
    }
    return "plain";
}

const char* role_name(uint8_t role) noexcept {
    switch (role) {
        case TIERD_ROLE_EMBEDDING:
            return "embedding";
        case TIERD_ROLE_ATTENTION:
            return "attention";
        case TIERD_ROLE_ROUTER:
            return "router";
        case TIERD_ROLE_EXPERT:
            return "expert";
        case TIERD_ROLE_FEED_FORWARD:
            return "feed_forward";
        case TIERD_ROLE_NORM:
            return "norm";
        case TIERD_ROLE_HEAD:
            return "head";
        default:
            return "other";
    }
}

Result<TensorMap> read_tensor_map(int fd, uint64_t file_bytes) {
    return parse(HeaderBytes::of_file(fd, file_bytes), file_bytes);
}

Result<TensorMap> parse_tensor_map(const char* header, size_t header_bytes, uint64_t file_bytes) {
    size_t bytes = std::min<uint64_t>(header_bytes, file_bytes);
    return parse(HeaderBytes::of_memory(header, bytes), file_bytes);
}

std::string model_name(const std::string& path) {
    std::string_view name = path;
    while (name.size() > 1 && name.ends_with('/')) name.remove_suffix(1);
    name = name.substr(name.rfind('/') + 1);  // npos + 1 is 0: no slash, the whole
    size_t dot = name.rfind('.');
    if (dot == std::string_view::npos) return std::string(without_part(name));
    return std::string(without_part(name.substr(0, dot))).append(name.substr(dot));
}

}  // namespace tierd
