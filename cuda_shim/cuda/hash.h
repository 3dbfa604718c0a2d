// hash.h - the keyed hash by which a chunk is proved unwritten: 128 bits, a sum over the chunk's 64-bit words of a
// function of
// the key, the word's place and its value. A sum has no order, so thousands of threads of a GPU can share the work.
//
// Two lanes of 64 bits with keys of their own; for a word x at place i of lane l:
//   t = (x ^ (key_l + i * kStep)) * kMix1; t ^= t >> 32; t *= kMix2; lane_l += t ^ (t >> 29)
// The key comes from the kernel's random numbers, once a process, so nobody can write a chunk that hashes like another.
// hash.ptx is the same for the GPU; a test holds the two together.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tierd::shim::cuda {

struct HashKey {
    uint64_t lane[2];
};
struct Hash {
    uint64_t lane[2];
    bool operator==(const Hash& other) const { return lane[0] == other.lane[0] && lane[1] == other.lane[1]; }
};

inline constexpr uint64_t kHashStep = 0x9e3779b97f4a7c15u;
inline constexpr uint64_t kHashMix1 = 0xff51afd7ed558ccdu;
inline constexpr uint64_t kHashMix2 = 0xc4ceb9fe1a85ec53u;

inline uint64_t hash_word(uint64_t key, uint64_t place, uint64_t word) {
    uint64_t t = (word ^ (key + place * kHashStep)) * kHashMix1;
    t ^= t >> 32;
    t *= kHashMix2;
    return t ^ (t >> 29);
}

// The same on the host.
inline Hash hash_words(const HashKey& key, const uint64_t* words, size_t count) {
    Hash hash{};
    for (size_t i = 0; i < count; i++) {
        hash.lane[0] += hash_word(key.lane[0], i, words[i]);
        hash.lane[1] += hash_word(key.lane[1], i, words[i]);
    }
    return hash;
}

// The kernel's text, for cuModuleLoadData. Its parameters: words, count, sum (two of 64 bits, added to), key 0, key 1.
inline constexpr const char* kHashKernel = "tierd_hash";
extern "C" __attribute__((visibility("hidden"))) const char tierd_hash_ptx[];

}  // namespace tierd::shim::cuda
