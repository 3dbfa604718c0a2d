// model_files.h - writes small weight files for tests, correct ones and ones that are wrong in a chosen way.
//
// Owns:      the bytes under construction.
// Invariant: none: what a test appends is what it gets, so that it can lie about lengths, counts and offsets.
// Callers:   tests only.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tierd::test {

// The bytes of a number as they lie in a file.
template <class T>
std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

// A length, the JSON, and `data_bytes` of zeros.
inline std::string safetensors_file(std::string_view json, uint64_t data_bytes) {
    return raw<uint64_t>(json.size()) + std::string(json) + std::string(data_bytes, '\0');
}

// Composes a GGUF header piece by piece; the counts follow what was added unless they are overwritten.
class GgufFile {
  public:
    static constexpr uint32_t kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7,
                              kString = 8, kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12;
    static constexpr uint32_t kTypeF32 = 0, kTypeF16 = 1, kTypeQ4_0 = 2, kTypeQ4K = 12;

    uint32_t version = 3;
    uint64_t tensor_count = 0;
    uint64_t key_count = 0;

    static std::string text(std::string_view value) {
        return raw<uint64_t>(value.size()) + std::string(value);
    }

    // `value` as it lies in the file, without its type.
    GgufFile& key(std::string_view name, uint32_t type, const std::string& value) {
        keys_ += text(name) + raw(type) + value;
        ++key_count;
        return *this;
    }

    // `shape` as GGUF has it, innermost dimension first.
    GgufFile& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                     uint64_t offset_bytes) {
        infos_ += text(name) + raw<uint32_t>(static_cast<uint32_t>(shape.size()));
        for (uint64_t dimension : shape) infos_ += raw(dimension);
        infos_ += raw(type) + raw(offset_bytes);
        ++tensor_count;
        return *this;
    }

    std::string header() const {
        return "GGUF" + raw(version) + raw(tensor_count) + raw(key_count) + keys_ + infos_;
    }

    // The header, padding to `alignment` and `data_bytes` of zeros.
    std::string file(uint64_t data_bytes, uint64_t alignment = 32) const {
        std::string bytes = header();
        bytes.resize((bytes.size() + alignment - 1) / alignment * alignment + data_bytes);
        return bytes;
    }

  private:
    std::string keys_;
    std::string infos_;
};

}  // namespace tierd::test
