#include "lib/policy/bpf_elf.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "bpf/tierd_policy.h"
#include "lib/policy/btf_check.h"

namespace tierd {
namespace {

struct Allowed {
    uint32_t number;
    std::string_view name;
};

// Helpers that read or write nothing but a policy's own maps. Others could reach beyond them: a SYSCALL program may
// call bpf_sys_bpf.
// clang-format off
constexpr Allowed kHelpers[] = {
    {BPF_FUNC_map_lookup_elem, "bpf_map_lookup_elem"}, {BPF_FUNC_map_update_elem, "bpf_map_update_elem"},
    {BPF_FUNC_map_delete_elem, "bpf_map_delete_elem"}, {BPF_FUNC_for_each_map_elem, "bpf_for_each_map_elem"},
    {BPF_FUNC_ktime_get_ns, "bpf_ktime_get_ns"},       {BPF_FUNC_ktime_get_boot_ns, "bpf_ktime_get_boot_ns"},
    {BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns"}, {BPF_FUNC_get_prandom_u32, "bpf_get_prandom_u32"},
    {BPF_FUNC_snprintf, "bpf_snprintf"},               {BPF_FUNC_strncmp, "bpf_strncmp"},
};
// clang-format on

// Functions of the kernel: a counting loop.
constexpr std::string_view kFunctions[] = {"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"};

constexpr uint8_t kCall = BPF_JMP | BPF_CALL;
constexpr uint8_t kLoadWide = BPF_LD | BPF_IMM | BPF_DW;  // takes two slots

std::optional<Hook> hook_of(std::string_view section) {
    for (size_t i = 0; i < kHooks; i++)
        if (kHookSpecs[i].section == section) return static_cast<Hook>(i);
    return std::nullopt;
}

std::string allowed_helpers() {
    std::string list;
    for (const Allowed& helper : kHelpers) {
        if (!list.empty()) list += ", ";
        list += helper.name;
    }
    return list;
}

class Inspection {
  public:
    Inspection(Elf* elf, const std::string& name) : elf_(elf), name_(name) {}

    Result<ObjectSummary> run() {
        GElf_Ehdr header;
        if (elf_kind(elf_) != ELF_K_ELF || gelf_getehdr(elf_, &header) == nullptr) return broken();
        if (header.e_machine != EM_BPF || header.e_type != ET_REL || header.e_ident[EI_CLASS] != ELFCLASS64)
            return bad("it is compiled for something else", "compile it with clang -target bpf -O2 -g -c");
        size_t names = 0;
        if (elf_getshdrstrndx(elf_, &names) != 0) return broken();
        for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
            GElf_Shdr head;
            if (gelf_getshdr(section, &head) == nullptr) return broken();
            const char* title = elf_strptr(elf_, names, head.sh_name);
            if (title == nullptr) return broken();
            auto bytes = contents(section, head);
            if (!bytes) return broken();
            if (auto fine = look_at(title, head, *bytes); !fine) return std::unexpected(fine.error());
        }
        return verdict();
    }

  private:
    std::unexpected<Error> bad(std::string what, std::string hint = {}) const {
        return fail(Code::bad_input, fmt::format("use the policy {}: {}", name_, what), {}, std::move(hint));
    }
    std::unexpected<Error> broken() const {
        return bad("it is not a complete BPF object", "it may be truncated: compile or copy it again");
    }

    // The section's bytes; nothing when they lie outside of the file.
    std::optional<std::span<const char>> contents(Elf_Scn* section, const GElf_Shdr& head) const {
        if (head.sh_type == SHT_NOBITS || head.sh_size == 0) return std::span<const char>{};
        Elf_Data* data = elf_rawdata(section, nullptr);
        if (data == nullptr || data->d_buf == nullptr || data->d_size != head.sh_size) return std::nullopt;
        return std::span(static_cast<const char*>(data->d_buf), data->d_size);
    }

    Result<void> look_at(std::string_view title, const GElf_Shdr& head, std::span<const char> bytes) {
        if (title == "license") {
            summary_.licence = std::string(bytes.data(), ::strnlen(bytes.data(), bytes.size()));
        } else if (title == "tierd.abi") {
            if (bytes.size() < sizeof(uint32_t)) return bad("its section tierd.abi is too short");
            uint32_t version;
            std::memcpy(&version, bytes.data(), sizeof version);
            abi_ = version;
        } else if (title == ".BTF") {
            btf_ = bytes;
        } else if (title == ".BTF.ext") {
            btf_ext_ = bytes;
        } else if (head.sh_type == SHT_SYMTAB) {
            return check_symbols(head, bytes);
        } else if (head.sh_type == SHT_PROGBITS && (head.sh_flags & SHF_EXECINSTR) != 0) {
            return check_code(title, bytes);
        }
        return {};
    }

    // What the object wants of the kernel are its undefined symbols.
    Result<void> check_symbols(const GElf_Shdr& head, std::span<const char> bytes) const {
        for (size_t at = 0; at + sizeof(Elf64_Sym) <= bytes.size(); at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            std::memcpy(&symbol, bytes.data() + at, sizeof symbol);
            const char* title = elf_strptr(elf_, head.sh_link, symbol.st_name);
            if (title == nullptr) return broken();
            if (symbol.st_shndx == SHN_UNDEF && *title != '\0' &&
                std::ranges::find(kFunctions, title) == std::end(kFunctions))
                return bad(fmt::format("it uses {} of the kernel, which is not for policies", title),
                           fmt::format("policies may use {}", fmt::join(kFunctions, ", ")));
        }
        return {};
    }

    Result<void> check_code(std::string_view title, std::span<const char> bytes) {
        if (bytes.empty()) return {};
        code_bytes_ = std::max(code_bytes_, bytes.size());
        if (title != ".text") {
            auto hook = hook_of(title);
            if (!hook) return bad(fmt::format("\"{}\" is not a hook", title), "tierd.bpf.h lists the hooks");
            if (std::ranges::find(summary_.hooks, *hook) != summary_.hooks.end())
                return bad(fmt::format("{} is there twice", title));
            summary_.hooks.push_back(*hook);
        }
        for (size_t at = 0; at + sizeof(bpf_insn) <= bytes.size(); at += sizeof(bpf_insn)) {
            bpf_insn insn;
            std::memcpy(&insn, bytes.data() + at, sizeof insn);
            if (auto fine = check_insn(title, insn); !fine) return fine;
            if (insn.code == kLoadWide) at += sizeof(bpf_insn);
        }
        return {};
    }

    Result<void> check_insn(std::string_view title, const bpf_insn& insn) const {
        bool is_call = insn.code == kCall;
        if (is_call && insn.src_reg == 0) {
            auto known = std::ranges::find(kHelpers, static_cast<uint32_t>(insn.imm), &Allowed::number);
            if (known == std::end(kHelpers))
                return bad(
                    fmt::format("{} calls the helper number {}, which is not for policies", title, insn.imm),
                    "policies may call " + allowed_helpers());
        }
        // Before relocation a compiler's code names neither functions nor maps of the kernel by number.
        if ((is_call && insn.src_reg > BPF_PSEUDO_CALL) || (insn.code == kLoadWide && insn.src_reg != 0))
            return bad(fmt::format("{} names something of the kernel by its number", title),
                       "compile it from C with clang");
        return {};
    }

    Result<ObjectSummary> verdict() const {
        if (!abi_)
            return bad("it does not say for which version of the policy ABI it is",
                       "write TIERD_POLICY(\"your licence\"); once, after #include \"tierd.bpf.h\"");
        if (*abi_ != TIERD_ABI_VERSION)
            return bad(fmt::format("it is for version {} of the policy ABI, and this tierd has version {}",
                                   *abi_, TIERD_ABI_VERSION),
                       "compile it again with this tierd's tierd.bpf.h");
        if (summary_.licence.empty())
            return bad("it names no licence",
                       "write TIERD_POLICY(\"your licence\"); once, after #include \"tierd.bpf.h\"");
        if (summary_.hooks.empty()) return bad("it has no hook", "write at least one TIERD_HOOK(...)");
        if (auto trouble = btf_trouble(btf_, btf_ext_, code_bytes_))
            return bad(fmt::format("its type information (.BTF) is damaged or missing: {}", *trouble),
                       "compile it with -g, and keep the sections .BTF and .BTF.ext");
        return summary_;
    }

    Elf* elf_;
    const std::string& name_;
    ObjectSummary summary_;
    std::optional<uint32_t> abi_;
    std::span<const char> btf_;
    std::span<const char> btf_ext_;
    size_t code_bytes_ = 0;
};

}  // namespace

Result<ObjectSummary> inspect_object(std::span<const char> bytes, const std::string& name) {
    if (bytes.size() > kMaxObjectBytes)
        return fail(Code::bad_input, fmt::format("use the policy {}: it is larger than 4 MiB", name));
    elf_version(EV_CURRENT);
    // libelf requires writable memory, but never writes here.
    std::unique_ptr<Elf, int (*)(Elf*)> elf(elf_memory(const_cast<char*>(bytes.data()), bytes.size()),
                                            elf_end);
    if (elf == nullptr)
        return fail(Code::bad_input, fmt::format("use the policy {}: it is not a BPF object", name), {},
                    "compile it with clang -target bpf -O2 -g -c");
    return Inspection(elf.get(), name).run();
}

}  // namespace tierd
