#include "lib/rules/rules_object.h"

#include <gelf.h>
#include <libelf.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

namespace tierd {
namespace {

#define TIERD_TEXT_OF(word) #word
#define TIERD_TEXT(word) TIERD_TEXT_OF(word)
constexpr std::string_view kArray = TIERD_TEXT(TIERD_RULES);
#undef TIERD_TEXT
#undef TIERD_TEXT_OF

// Where in the file the symbol's bytes are; nothing unless it is the whole array and the file holds it.
std::optional<uint64_t> offset_of(Elf* elf, const GElf_Sym& symbol, size_t file_bytes) {
    GElf_Shdr section;
    if (symbol.st_size != sizeof(RuleTable)) return std::nullopt;
    if (gelf_getshdr(elf_getscn(elf, symbol.st_shndx), &section) == nullptr) return std::nullopt;
    bool is_inside = section.sh_type == SHT_PROGBITS && section.sh_size >= sizeof(RuleTable) &&
                     symbol.st_value <= section.sh_size - sizeof(RuleTable);
    if (!is_inside || section.sh_offset > file_bytes || section.sh_size > file_bytes - section.sh_offset)
        return std::nullopt;
    return section.sh_offset + symbol.st_value;
}

std::optional<uint64_t> find_array(Elf* elf, size_t file_bytes) {
    for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
        GElf_Shdr head;
        if (gelf_getshdr(section, &head) == nullptr || head.sh_type != SHT_SYMTAB) continue;
        Elf_Data* data = elf_getdata(section, nullptr);
        GElf_Sym symbol;
        for (int i = 0; data != nullptr && gelf_getsym(data, i, &symbol) != nullptr; i++) {
            const char* name = elf_strptr(elf, head.sh_link, symbol.st_name);
            if (name != nullptr && name == kArray) return offset_of(elf, symbol, file_bytes);
        }
    }
    return std::nullopt;
}

}  // namespace

Result<std::string> put_rules(std::string object, const RuleTable& table) {
    elf_version(EV_CURRENT);
    std::unique_ptr<Elf, int (*)(Elf*)> elf(elf_memory(object.data(), object.size()), elf_end);
    auto offset = elf == nullptr ? std::nullopt : find_array(elf.get(), object.size());
    elf.reset();
    if (!offset)
        return fail(Code::bad_input, "put rules into the policy `rules`", {},
                    "take tierctl and rules.bpf.o of the same version");
    std::memcpy(object.data() + *offset, table.data(), sizeof table);
    return object;
}

}  // namespace tierd
