// symbols.h - which function of which binary an instruction belongs to.
//
// Owns:      the symbol tables of the binaries that were looked up, at most kMostBinaries at a time.
// Invariant: a binary is read once. One that can't be read, is no ELF file or has no symbols is remembered as such.
//            It is never run or trusted: libelf checks its offsets against the file's size.
// Callers:   one thread. Blocks on reading the binary. Not the daemon: the caller reads binaries with its own rights.
// Fails:     with the binary's own name instead of a function's.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lib/base/result.h"

namespace tierd {

class SymbolTable {
  public:
    // Reads .symtab, or .dynsym where the binary was stripped. Errors: errno of open(2), bad_input.
    static Result<SymbolTable> read(const std::string& path);

    // The function that holds the byte at this offset of the file, demangled; empty: none.
    std::string function_at(uint64_t offset_bytes) const;

  private:
    struct Segment {
        uint64_t offset_bytes = 0, length_bytes = 0, address = 0;
    };
    struct Symbol {
        uint64_t address = 0, length_bytes = 0;
        std::string name;
    };
    std::vector<Segment> segments_;  // that are loaded
    std::vector<Symbol> symbols_;    // ascending by address
};

class Symbols {
  public:
    // "llama_decode", or "libfoo.so" where there is no symbol for the offset.
    std::string function_at(const std::string& path, uint64_t offset_bytes);

  private:
    static constexpr size_t kMostBinaries = 256;
    std::map<std::string, SymbolTable> tables_;
};

}  // namespace tierd
