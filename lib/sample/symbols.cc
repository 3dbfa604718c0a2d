#include "lib/sample/symbols.h"

#include <cxxabi.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "lib/base/fd.h"

namespace tierd {

namespace {

struct EndElf {
    void operator()(Elf* elf) const { ::elf_end(elf); }
};

std::string demangled(const char* name) {
    int status = 0;
    std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                     &std::free);
    return status == 0 && text ? text.get() : name;
}

}  // namespace

Result<SymbolTable> SymbolTable::read(const std::string& path) {
    auto fd = open_file(path, O_RDONLY | O_NONBLOCK);
    if (!fd) return std::unexpected(fd.error());
    ::elf_version(EV_CURRENT);
    std::unique_ptr<Elf, EndElf> elf(::elf_begin(fd->get(), ELF_C_READ, nullptr));
    if (!elf || ::elf_kind(elf.get()) != ELF_K_ELF)
        return fail(Code::bad_input, "read symbols", path, "it is not an ELF file");
    SymbolTable table;
    size_t segments = 0;
    ::elf_getphdrnum(elf.get(), &segments);
    for (size_t i = 0; i < segments; i++) {
        GElf_Phdr header;
        if (::gelf_getphdr(elf.get(), static_cast<int>(i), &header) != nullptr && header.p_type == PT_LOAD)
            table.segments_.push_back({header.p_offset, header.p_filesz, header.p_vaddr});
    }
    for (uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
        for (Elf_Scn* section = nullptr;
             table.symbols_.empty() && (section = ::elf_nextscn(elf.get(), section));) {
            GElf_Shdr header;
            if (::gelf_getshdr(section, &header) == nullptr || header.sh_type != wanted ||
                header.sh_entsize == 0)
                continue;
            Elf_Data* data = ::elf_getdata(section, nullptr);
            for (size_t i = 0; data != nullptr && i < header.sh_size / header.sh_entsize; i++) {
                GElf_Sym symbol;
                if (::gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) break;
                const char* name = ::elf_strptr(elf.get(), header.sh_link, symbol.st_name);
                bool is_function =
                    GELF_ST_TYPE(symbol.st_info) == STT_FUNC || GELF_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC;
                if (is_function && symbol.st_value != 0 && name != nullptr && *name != '\0')
                    table.symbols_.push_back({symbol.st_value, symbol.st_size, name});
            }
        }
    }
    std::ranges::sort(table.symbols_, {}, &Symbol::address);
    return table;
}

std::string SymbolTable::function_at(uint64_t offset_bytes) const {
    for (const Segment& segment : segments_) {
        if (offset_bytes < segment.offset_bytes ||
            offset_bytes - segment.offset_bytes >= segment.length_bytes)
            continue;
        uint64_t address = segment.address + (offset_bytes - segment.offset_bytes);
        auto after = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                                      [](uint64_t a, const Symbol& symbol) { return a < symbol.address; });
        if (after == symbols_.begin()) return {};
        const Symbol& symbol = *std::prev(after);
        // Functions written in assembly often have no length: they reach to the next one.
        bool inside = symbol.length_bytes == 0 || address - symbol.address < symbol.length_bytes;
        return inside ? demangled(symbol.name.c_str()) : std::string();
    }
    return {};
}

std::string Symbols::function_at(const std::string& path, uint64_t offset_bytes) {
    auto known = tables_.find(path);
    if (known == tables_.end()) {
        if (tables_.size() >= kMostBinaries) tables_.clear();
        auto table = SymbolTable::read(path);
        known = tables_.emplace(path, table ? std::move(*table) : SymbolTable()).first;
    }
    std::string name = known->second.function_at(offset_bytes);
    return name.empty() ? path.substr(path.rfind('/') + 1) : name;
}

}  // namespace tierd
