// pattern.h - what the bytes of a test's weight file are: a function of a seed and the offset, so that every
// byte can be checked without a second copy of the file.
//
// Owns:      nothing; pure functions.
// Invariant: no two 8-byte words of one file are equal, none is zero except by a chance of 2^-64: a zero
//            page, a page of another place and a page of another seed all count as wrong.
// Callers:   any thread. Never fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tierd::itest {

inline constexpr uint64_t kPageBytes = 4096;

// The word at `offset_bytes` / 8: splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators" (2014).
inline uint64_t pattern_word(uint64_t seed, uint64_t index) {
    uint64_t z = (seed << 40) + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Writes the file's bytes [offset, offset + length) to `to`. `offset_bytes` is a multiple of 8.
inline void fill_pattern(uint64_t seed, uint64_t offset_bytes, char* to, size_t length_bytes) {
    size_t i = 0;
    for (; i + 8 <= length_bytes; i += 8) {
        const uint64_t word = pattern_word(seed, (offset_bytes + i) / 8);
        std::memcpy(to + i, &word, 8);
    }
    const uint64_t last = pattern_word(seed, (offset_bytes + i) / 8);
    std::memcpy(to + i, &last, length_bytes - i);
}

// How many of the bytes at `from` are not the file's. `offset_bytes` is a multiple of 8.
inline size_t count_wrong(uint64_t seed, uint64_t offset_bytes, const char* from, size_t length_bytes) {
    uint64_t differing = 0;
    size_t i = 0;
    for (; i + 8 <= length_bytes; i += 8) {
        uint64_t word;
        std::memcpy(&word, from + i, 8);
        differing |= word ^ pattern_word(seed, (offset_bytes + i) / 8);
    }
    if (differing == 0 && i == length_bytes) return 0;
    size_t wrong = 0;
    for (size_t at = 0; at < length_bytes; at += 8) {
        const uint64_t right = pattern_word(seed, (offset_bytes + at) / 8);
        const auto* bytes = reinterpret_cast<const char*>(&right);
        for (size_t b = 0; b < 8 && at + b < length_bytes; ++b) wrong += from[at + b] != bytes[b];
    }
    return wrong;
}

}  // namespace tierd::itest
