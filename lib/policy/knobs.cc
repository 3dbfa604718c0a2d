#include "lib/policy/knobs.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace tierd {
namespace {

struct Place {
    std::string name;
    const btf_type* type;  // without const, volatile, typedef
    char* bytes;
    uint32_t size;
    bool is_signed;
};

const btf_type* plain_type(const btf* types, uint32_t id) {
    const btf_type* type = btf__type_by_id(types, id);
    while (type != nullptr && (btf_is_mod(type) || btf_is_typedef(type)))
        type = btf__type_by_id(types, type->type);
    return type;
}

bool is_text(const btf* types, const btf_type* type) {
    if (!btf_is_array(type)) return false;
    const btf_type* element = plain_type(types, btf_array(type)->type);
    return element != nullptr && btf_is_int(element) && element->size == 1;
}

// A map's `const volatile` variables. Those without volatile are not ours to change: the compiler has used their value.
bool is_knob(const btf* types, const btf_type* variable) {
    if (btf_var(variable)->linkage != BTF_VAR_GLOBAL_ALLOCATED) return false;
    const btf_type* type = btf__type_by_id(types, variable->type);
    if (type != nullptr && btf_is_array(type)) type = btf__type_by_id(types, btf_array(type)->type);
    for (; type != nullptr && btf_is_mod(type); type = btf__type_by_id(types, type->type))
        if (btf_is_volatile(type)) return true;
    return false;
}

std::vector<Place> places(::bpf_object* object) {
    std::vector<Place> found;
    const btf* types = bpf_object__btf(object);
    size_t image_bytes = 0;
    char* image = nullptr;
    ::bpf_map* map;
    bpf_object__for_each_map(map, object) {
        if (std::string_view(bpf_map__name(map)).ends_with(".rodata"))
            image = static_cast<char*>(const_cast<void*>(bpf_map__initial_value(map, &image_bytes)));
    }
    int section = types == nullptr ? -1 : btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
    if (image == nullptr || section < 0) return found;
    const btf_type* rodata = btf__type_by_id(types, static_cast<uint32_t>(section));
    const btf_var_secinfo* entry = btf_var_secinfos(rodata);
    for (uint32_t i = 0; i < btf_vlen(rodata); i++, entry++) {
        const btf_type* variable = btf__type_by_id(types, entry->type);
        if (variable == nullptr || !btf_is_var(variable) || !is_knob(types, variable)) continue;
        const btf_type* type = plain_type(types, variable->type);
        if (type == nullptr || entry->size > image_bytes || entry->offset > image_bytes - entry->size)
            continue;
        bool is_number = (btf_is_int(type) || btf_is_any_enum(type)) && entry->size <= 8;
        if (!is_number && !is_text(types, type)) continue;
        bool is_signed = btf_is_int(type) ? (btf_int_encoding(type) & BTF_INT_SIGNED) != 0 : btf_kflag(type);
        found.push_back({btf__name_by_offset(types, variable->name_off), type, image + entry->offset,
                         entry->size, is_signed});
    }
    return found;
}

std::string shown(const Place& place) {
    if (btf_is_array(place.type)) return {place.bytes, ::strnlen(place.bytes, place.size)};
    uint64_t raw = 0;
    std::memcpy(&raw, place.bytes, place.size);
    if (!place.is_signed) return fmt::format("{}", raw);
    unsigned spare = 64 - 8 * place.size;
    return fmt::format("{}", static_cast<int64_t>(raw << spare) >> spare);
}

// Does the number fit into so many bytes?
bool fits(const Place& place, bool negative, uint64_t raw) {
    unsigned bits = 8 * place.size;
    if (!place.is_signed) return !negative && (bits == 64 || raw >> bits == 0);
    auto value = static_cast<int64_t>(raw);
    if (!negative && value < 0) return false;  // beyond the greatest signed number
    return bits == 64 || (value >= -(int64_t{1} << (bits - 1)) && value < int64_t{1} << (bits - 1));
}

Result<void> set_number(const Place& place, const std::string& value) {
    bool negative = value.starts_with('-');
    char* end = nullptr;
    errno = 0;
    uint64_t raw = negative ? static_cast<uint64_t>(std::strtoll(value.c_str(), &end, 0))
                            : std::strtoull(value.c_str(), &end, 0);
    bool whole = !value.empty() && std::isspace(static_cast<unsigned char>(value[0])) == 0 && *end == '\0';
    if (!whole || errno != 0 || !fits(place, negative, raw))
        return fail(Code::bad_input, "set the knob", place.name + "=" + value,
                    fmt::format("give a{} whole number of {} bytes", place.is_signed ? "" : "n unsigned",
                                place.size));
    std::memcpy(place.bytes, &raw, place.size);
    return {};
}

Result<void> set_text(const Place& place, const std::string& value) {
    if (value.size() >= place.size)
        return fail(Code::bad_input, "set the knob", place.name + "=" + value,
                    fmt::format("give at most {} characters", place.size - 1));
    std::memset(place.bytes, 0, place.size);
    std::memcpy(place.bytes, value.data(), value.size());
    return {};
}

}  // namespace

Result<void> set_knobs(::bpf_object* object, std::span<const Knob> knobs) {
    auto all = places(object);
    for (const Knob& knob : knobs) {
        auto found = std::ranges::find(all, knob.name, &Place::name);
        if (found == all.end()) {
            std::string names;
            for (const Place& place : all) names += (names.empty() ? "" : ", ") + place.name;
            return fail(Code::bad_input, "set the knob", knob.name,
                        names.empty() ? "the policy has no knobs" : "the policy has " + names);
        }
        auto set = btf_is_array(found->type) ? set_text(*found, knob.value) : set_number(*found, knob.value);
        if (!set) return set;
    }
    return {};
}

std::vector<Knob> read_knobs(::bpf_object* object) {
    std::vector<Knob> knobs;
    for (const Place& place : places(object)) knobs.push_back({place.name, shown(place)});
    return knobs;
}

}  // namespace tierd
