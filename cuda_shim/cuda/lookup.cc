#include "cuda_shim/cuda/lookup.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "cuda_shim/cuda/driver.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

constinit Driver the_driver;

namespace {

// A loaded library's own table of symbols, read without asking the loader, whose functions are the ones we stand
// before.
struct Symbols {
    uint64_t base = 0;
    const ElfW(Sym) * symbols = nullptr;
    const char* strings = nullptr;
    const uint32_t* hash = nullptr;  // DT_GNU_HASH

    explicit Symbols(const link_map& library);
    void* find(const char* name) const;
};

Symbols::Symbols(const link_map& library) : base(library.l_addr) {
    for (const ElfW(Dyn)* entry = library.l_ld; entry->d_tag != DT_NULL; entry++) {
        // The loader has made addresses of these, on every machine that CUDA runs on.
        if (entry->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(entry->d_un.d_ptr);
        if (entry->d_tag == DT_GNU_HASH) hash = reinterpret_cast<const uint32_t*>(entry->d_un.d_ptr);
    }
}

// Without libc's, which somebody may stand before who asks us where it is.
bool is_same(const char* a, const char* b) {
    for (; *a == *b; a++, b++)
        if (*a == '\0') return true;
    return false;
}

void* Symbols::find(const char* name) const {
    if (symbols == nullptr || strings == nullptr || hash == nullptr) return nullptr;
    uint32_t wanted = 5381;
    for (const char* c = name; *c != '\0'; c++) wanted = wanted * 33 + static_cast<unsigned char>(*c);
    uint32_t buckets = hash[0], first = hash[1], bloom_words = hash[2];
    const uint32_t* bucket = hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4);
    const uint32_t* chain = bucket + buckets;
    uint32_t index = bucket[wanted % buckets];
    if (index < first) return nullptr;
    while (true) {
        uint32_t seen = chain[index - first];
        const ElfW(Sym)& symbol = symbols[index];
        if ((seen | 1) == (wanted | 1) && symbol.st_shndx != SHN_UNDEF &&
            is_same(strings + symbol.st_name, name))
            return reinterpret_cast<void*>(base + symbol.st_value);
        if ((seen & 1) != 0) return nullptr;
        index++;
    }
}

bool is_file(const char* path, const char* name) {
    const char* file = path;
    for (const char* c = path; *c != '\0'; c++)
        if (*c == '/') file = c + 1;
    return is_same(file, name);
}

constinit Lock load_lock;

using DlvsymFunction = void* (*)(void* handle, const char* name, const char* version);

bool is_cuda_name(const char* name) {
    return name != nullptr && name[0] == 'c' && name[1] == 'u';
}

}  // namespace

// libc stands among the libraries that the program began with, at the head of the loader's list: those never go.
void* find_in_libc(const char* name) {
    for (const link_map* library = _r_debug.r_map; library != nullptr; library = library->l_next) {
        if (!is_file(library->l_name, "libc.so.6") && !is_file(library->l_name, "libdl.so.2")) continue;
        if (void* found = Symbols(*library).find(name); found != nullptr) return found;
    }
    return nullptr;
}

// Where the assembler below jumps to. Atomic words; whoever finds them empty fills them, with the same values.
extern "C" {
__attribute__((visibility("hidden"))) constinit DlsymFunction tierd_real_dlsym = nullptr;
__attribute__((visibility("hidden"))) constinit DlvsymFunction tierd_real_dlvsym = nullptr;
}

DlsymFunction real_dlsym() {
    DlsymFunction known = __atomic_load_n(&tierd_real_dlsym, __ATOMIC_ACQUIRE);
    if (known != nullptr) return known;
    __atomic_store_n(&tierd_real_dlvsym, reinterpret_cast<DlvsymFunction>(find_in_libc("dlvsym")),
                     __ATOMIC_RELEASE);
    known = reinterpret_cast<DlsymFunction>(find_in_libc("dlsym"));
    __atomic_store_n(&tierd_real_dlsym, known, __ATOMIC_RELEASE);
    return known;
}

uint32_t find_entry(const char* name) {
    uint32_t low = 0, high = kEntries;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = ::strcmp(kEntryRows[middle].name, name);
        if (order == 0) return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return kEntries;
}

bool load_driver() {
    DlsymFunction look = real_dlsym();
    if (look == nullptr) return false;
    void* library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return false;
    load_lock.lock();
    if (the_driver.loaded == 0)
        for (uint32_t i = 0; i < kEntries; i++) the_driver.functions[i] = look(library, kEntryRows[i].name);
    __atomic_store_n(&the_driver.loaded, 1u, __ATOMIC_RELEASE);
    load_lock.unlock();
    return true;
}

// Ours in the place of what dlsym(), or with a version dlvsym(), would find; null: the real one is to be asked.
extern "C" __attribute__((visibility("hidden"), used)) void* tierd_look_up(void* handle, const char* name,
                                                                           const char* version) {
    DlsymFunction look = real_dlsym();
    if (look == nullptr || !is_cuda_name(name) || !is_enabled()) return nullptr;
    uint32_t entry = find_entry(name);
    if (entry == kEntries || kEntryRows[entry].ours == nullptr) return nullptr;
    DlvsymFunction look_for_version = __atomic_load_n(&tierd_real_dlvsym, __ATOMIC_ACQUIRE);
    void* found = version == nullptr            ? look(handle, name)
                  : look_for_version == nullptr ? nullptr
                                                : look_for_version(handle, name, version);
    if (found == nullptr || !load_driver()) return nullptr;
    bool is_the_drivers = found == the_driver.functions[entry] || found == kEntryRows[entry].ours;
    return is_the_drivers ? kEntryRows[entry].ours : nullptr;
}

namespace {

bool is_base(const EntryRow& row, const char* symbol, size_t length) {
    return row.base_length == length && ::strncmp(row.name, symbol, length) == 0;
}

}  // namespace

// The driver gives out the address of one of its exported functions, as far as anybody knows. Where it is none of them,
// the versions that cuda.h's typedefs tell say which function it is.
void* ours_for(const char* symbol, void* found, int cuda_version, uint64_t flags) {
    if (!is_enabled() || !is_cuda_name(symbol)) return found;
    size_t length = ::strlen(symbol);
    bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    uint32_t best = kEntries;
    bool matters = false, has_per_thread = false;
    for (uint32_t i = 0; i < kEntries; i++) {
        const EntryRow& row = kEntryRows[i];
        if (!is_base(row, symbol, length) && ::strcmp(row.name, symbol) != 0) continue;
        if (found == row.ours) return found;  // the driver looked its own function up, and came to ours
        if (found == the_driver.functions[i]) return row.ours != nullptr ? row.ours : found;
        matters = matters || row.ours != nullptr;
        has_per_thread = has_per_thread || row.per_thread;
    }
    if (!matters) return found;
    for (uint32_t i = 0; i < kEntries; i++) {
        const EntryRow& row = kEntryRows[i];
        if (!is_base(row, symbol, length) || row.per_thread != (per_thread && has_per_thread)) continue;
        if (row.version == 0 || row.version > cuda_version) continue;
        if (best == kEntries || row.version > kEntryRows[best].version) best = i;
    }
    if (best == kEntries) {
        give_up("cuGetProcAddress names a function that can't be told");
        return found;
    }
    if (kEntryRows[best].ours == nullptr) return found;
    __atomic_store_n(&the_driver.functions[best], found, __ATOMIC_RELAXED);
    return kEntryRows[best].ours;
}

}  // namespace tierd::shim::cuda

// dlsym() and dlvsym() look at their caller where the handle says so (RTLD_NEXT), so the real ones are jumped to, with
// the
// stack as it was.
// clang-format off
__asm__(R"(
    .text
    .globl dlsym
    .type dlsym, @function
dlsym:
    endbr64
    pushq %rdi
    pushq %rsi
    subq $8, %rsp
    xorl %edx, %edx
    call tierd_look_up
    addq $8, %rsp
    popq %rsi
    popq %rdi
    testq %rax, %rax
    jnz 1f
    movq tierd_real_dlsym(%rip), %rax
    testq %rax, %rax
    jz 1f
    jmpq *%rax
1:  ret
    .size dlsym, . - dlsym

    .globl dlvsym
    .type dlvsym, @function
dlvsym:
    endbr64
    pushq %rdi
    pushq %rsi
    pushq %rdx
    call tierd_look_up
    popq %rdx
    popq %rsi
    popq %rdi
    testq %rax, %rax
    jnz 1f
    movq tierd_real_dlvsym(%rip), %rax
    testq %rax, %rax
    jz 1f
    jmpq *%rax
1:  ret
    .size dlvsym, . - dlvsym
)");
// clang-format on
