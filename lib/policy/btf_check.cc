#include "lib/policy/btf_check.h"

#include <fmt/format.h>
#include <linux/btf.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tierd {
namespace {

using Trouble = std::optional<std::string>;

constexpr uint32_t kMaxTypes = 1 << 20;
constexpr uint32_t kMaxDepth = 32;  // of types in types; libbpf itself goes no deeper
constexpr uint32_t kMaxBytes =
    1u << 28;  // of an array's elements and of a type, so that no product overflows

// A piece of the section, read by value: nothing in an object need be aligned.
template <class T>
bool read(std::span<const char> bytes, uint64_t at, T& into) {
    if (at > bytes.size() || bytes.size() - at < sizeof(T)) return false;
    std::memcpy(&into, bytes.data() + at, sizeof(T));
    return true;
}

struct Type {
    btf_type head{};
    uint64_t at = 0;  // what follows the head
    uint32_t kind() const { return BTF_INFO_KIND(head.info); }
    uint32_t count() const { return BTF_INFO_VLEN(head.info); }
    bool is_modifier() const {
        switch (kind()) {
            case BTF_KIND_TYPEDEF:
            case BTF_KIND_VOLATILE:
            case BTF_KIND_CONST:
            case BTF_KIND_RESTRICT:
            case BTF_KIND_TYPE_TAG:
                return true;
            default:
                return false;
        }
    }
};

// Bytes that follow a head of that kind; nothing for a kind that there is not.
std::optional<uint64_t> tail_bytes(const Type& type) {
    uint64_t count = type.count();
    switch (type.kind()) {
        case BTF_KIND_INT:
        case BTF_KIND_VAR:
        case BTF_KIND_DECL_TAG:
            return sizeof(uint32_t);
        case BTF_KIND_PTR:
        case BTF_KIND_FWD:
        case BTF_KIND_FUNC:
        case BTF_KIND_FLOAT:
            return 0;
        case BTF_KIND_ARRAY:
            return sizeof(btf_array);
        case BTF_KIND_STRUCT:
        case BTF_KIND_UNION:
            return count * sizeof(btf_member);
        case BTF_KIND_ENUM:
            return count * sizeof(btf_enum);
        case BTF_KIND_ENUM64:
            return count * sizeof(btf_enum64);
        case BTF_KIND_FUNC_PROTO:
            return count * sizeof(btf_param);
        case BTF_KIND_DATASEC:
            return count * sizeof(btf_var_secinfo);
        default:
            return type.is_modifier() ? std::optional<uint64_t>(0) : std::nullopt;
    }
}

class Check {
  public:
    explicit Check(std::span<const char> btf) : bytes_(btf) {}

    Trouble run() {
        btf_header head;
        if (!read(bytes_, 0, head)) return "it is shorter than its header";
        if (head.magic != BTF_MAGIC || head.version != BTF_VERSION || head.hdr_len != sizeof head)
            return "it has another format";
        uint64_t capacity = bytes_.size() - sizeof head;
        uint64_t types_end = uint64_t{head.type_off} + head.type_len;
        if (head.type_off % 4 != 0 || types_end > head.str_off ||
            uint64_t{head.str_off} + head.str_len > capacity)
            return "its parts lie outside of it";
        strings_ = bytes_.subspan(sizeof head + head.str_off, head.str_len);
        if (strings_.empty() || strings_.front() != '\0' || strings_.back() != '\0')
            return "its names do not end";
        if (auto trouble = list(sizeof head + head.type_off, sizeof head + types_end)) return trouble;
        for (uint32_t number = 1; number < types_.size(); number++)
            if (!is_sound(types_[number])) return fmt::format("type {} makes no sense", number);
        depth_.assign(types_.size(), kUnknown);
        for (uint32_t number = 1; number < types_.size(); number++)
            if (!measure(number, 0)) return fmt::format("type {} contains itself", number);
        return std::nullopt;
    }

    bool is_name(uint32_t offset) const { return offset < strings_.size(); }
    bool is_type(uint32_t number) const { return number < types_.size(); }
    bool is_kind(uint32_t number, uint32_t kind) const {
        return number > 0 && is_type(number) && types_[number].kind() == kind;
    }

  private:
    Trouble list(uint64_t at, uint64_t end) {
        types_.emplace_back();  // number 0 is void
        while (at < end) {
            Type type;
            if (end - at < sizeof type.head || !read(bytes_, at, type.head)) return "its last type is cut";
            type.at = at + sizeof type.head;
            auto tail = tail_bytes(type);
            if (!tail || *tail > end - type.at)
                return fmt::format("type {} is cut or of no known kind", types_.size());
            if (types_.size() > kMaxTypes) return "it has too many types";
            types_.push_back(type);
            at = type.at + *tail;
        }
        return std::nullopt;
    }

    template <class Row, class Fine>
    bool all(const Type& type, Fine fine) const {
        for (uint64_t i = 0; i < type.count(); i++) {
            Row row;
            if (!read(bytes_, type.at + i * sizeof(Row), row) || !fine(row)) return false;
        }
        return true;
    }

    bool is_sound(const Type& type) const {
        if (!is_name(type.head.name_off)) return false;
        switch (type.kind()) {
            case BTF_KIND_INT:
            case BTF_KIND_FLOAT:
                return type.head.size > 0 && type.head.size <= 16;
            case BTF_KIND_ARRAY: {
                btf_array array;
                return read(bytes_, type.at, array) && is_type(array.type) && is_type(array.index_type) &&
                       array.nelems <= kMaxBytes;
            }
            case BTF_KIND_STRUCT:
            case BTF_KIND_UNION:
                return type.head.size <= kMaxBytes && all<btf_member>(type, [&](const btf_member& m) {
                           return is_name(m.name_off) && is_type(m.type);
                       });
            case BTF_KIND_ENUM:
                return type.head.size <= 8 &&
                       all<btf_enum>(type, [&](const btf_enum& e) { return is_name(e.name_off); });
            case BTF_KIND_ENUM64:
                return type.head.size <= 8 &&
                       all<btf_enum64>(type, [&](const btf_enum64& e) { return is_name(e.name_off); });
            case BTF_KIND_FUNC_PROTO:
                return is_type(type.head.type) && all<btf_param>(type, [&](const btf_param& p) {
                           return is_name(p.name_off) && is_type(p.type);
                       });
            case BTF_KIND_FUNC:
                return is_kind(type.head.type, BTF_KIND_FUNC_PROTO) && type.count() <= BTF_FUNC_EXTERN;
            case BTF_KIND_DATASEC:
                // Variables, or functions of the kernel.
                return type.head.size <= kMaxBytes &&
                       all<btf_var_secinfo>(type, [&](const btf_var_secinfo& v) {
                           return (is_kind(v.type, BTF_KIND_VAR) || is_kind(v.type, BTF_KIND_FUNC)) &&
                                  v.offset <= kMaxBytes && v.size <= kMaxBytes;
                       });
            case BTF_KIND_FWD:
                return true;
            default:
                return is_type(type.head.type);
        }
    }

    // How deep types are nested, or false if the nesting has no end. A pointer ends it.
    bool measure(uint32_t number, uint32_t above) {
        if (number == 0 || depth_[number] == kMeasured) return true;
        if (depth_[number] == kOpen || above > kMaxDepth) return false;
        depth_[number] = kOpen;
        bool ends = measure_parts(types_[number], above + 1);
        depth_[number] = kMeasured;
        return ends;
    }
    bool measure_parts(const Type& type, uint32_t above) {
        btf_array array;
        switch (type.kind()) {
            case BTF_KIND_ARRAY:
                return read(bytes_, type.at, array) && measure(array.type, above);
            case BTF_KIND_STRUCT:
            case BTF_KIND_UNION:
                return all<btf_member>(type, [&](const btf_member& m) { return measure(m.type, above); });
            case BTF_KIND_VAR:
                return measure(type.head.type, above);
            default:
                return !type.is_modifier() || measure(type.head.type, above);
        }
    }

    enum : uint8_t { kUnknown, kOpen, kMeasured };
    std::span<const char> bytes_;
    std::span<const char> strings_;
    std::vector<Type> types_;
    std::vector<uint8_t> depth_;
};

// The header of .BTF.ext and of its parts; linux/btf.h has none of it.
struct ExtHeader {
    uint16_t magic;
    uint8_t version;
    uint8_t flags;
    uint32_t hdr_len;
    uint32_t func_info_off, func_info_len;
    uint32_t line_info_off, line_info_len;
    uint32_t core_relo_off, core_relo_len;
};
struct ExtSection {
    uint32_t name_off;
    uint32_t count;
};
struct FuncInfo {
    uint32_t insn_off, type_id;
};
struct LineInfo {
    uint32_t insn_off, file_name_off, line_off, line_col;
};
struct CoreRelo {
    uint32_t insn_off, type_id, access_str_off, kind;
};

// One part: the size of a record, then for each section of the object a head and its records.
template <class Record, class Fine>
bool part_is_sound(std::span<const char> part, const Check& types, Fine fine) {
    uint32_t record_bytes = 0;
    if (part.empty()) return true;
    if (!read(part, 0, record_bytes) || record_bytes != sizeof(Record)) return false;
    for (uint64_t at = sizeof record_bytes; at < part.size();) {
        ExtSection section;
        if (!read(part, at, section) || !types.is_name(section.name_off) || section.count == 0) return false;
        at += sizeof section;
        for (uint32_t i = 0; i < section.count; i++, at += sizeof(Record)) {
            Record record;
            if (!read(part, at, record) || !fine(record)) return false;
        }
    }
    return true;
}

Trouble ext_trouble(std::span<const char> ext, const Check& types, uint64_t code_bytes) {
    ExtHeader head;
    if (!read(ext, 0, head)) return ".BTF.ext is shorter than its header";
    if (head.magic != BTF_MAGIC || head.version != BTF_VERSION || head.hdr_len != sizeof head)
        return ".BTF.ext has another format";
    std::span<const char> body = ext.subspan(sizeof head);
    auto part = [&](uint32_t offset, uint32_t length) -> std::optional<std::span<const char>> {
        if (offset % 4 != 0 || offset > body.size() || length > body.size() - offset) return std::nullopt;
        return body.subspan(offset, length);
    };
    auto functions = part(head.func_info_off, head.func_info_len);
    auto lines = part(head.line_info_off, head.line_info_len);
    auto fields = part(head.core_relo_off, head.core_relo_len);
    if (!functions || !lines || !fields) return "the parts of .BTF.ext lie outside of it";
    auto in_code = [&](uint32_t offset) { return offset % 8 == 0 && offset < code_bytes; };
    bool sound =
        part_is_sound<FuncInfo>(*functions, types,
                                [&](const FuncInfo& f) {
                                    return in_code(f.insn_off) && types.is_kind(f.type_id, BTF_KIND_FUNC);
                                }) &&
        part_is_sound<LineInfo>(*lines, types,
                                [&](const LineInfo& l) {
                                    return in_code(l.insn_off) && types.is_name(l.file_name_off) &&
                                           types.is_name(l.line_off);
                                }) &&
        part_is_sound<CoreRelo>(*fields, types, [&](const CoreRelo& c) {
            return in_code(c.insn_off) && c.type_id > 0 && types.is_type(c.type_id) &&
                   types.is_name(c.access_str_off);
        });
    return sound ? Trouble() : "the records of .BTF.ext make no sense";
}

}  // namespace

Trouble btf_trouble(std::span<const char> btf, std::span<const char> ext, uint64_t code_bytes) {
    Check check(btf);
    if (auto trouble = check.run()) return trouble;
    return ext.empty() ? Trouble() : ext_trouble(ext, check, code_bytes);
}

}  // namespace tierd
