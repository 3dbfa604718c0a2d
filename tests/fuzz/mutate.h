// mutate.h - what breaks parsers: flipped bits, extreme numbers, and pieces that are missing, doubled or moved.
//
// Callers:   programs that replay a fuzzer's corpus without the fuzzer. Pure but for the generator's state.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <string>

namespace tierd::test {

inline void mutate(std::string& bytes, std::mt19937_64& random) {
    if (bytes.empty()) return;
    size_t at = random() % bytes.size();
    size_t length = 1 + random() % std::min<size_t>(16, bytes.size() - at);
    static constexpr uint64_t kExtremes[] = {0,          1,          UINT64_MAX, 1ull << 63,
                                             1ull << 32, UINT32_MAX, 0x7fff,     1ull << 40};
    switch (random() % 6) {
        case 0:
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
            break;
        case 1:
            bytes[at] = static_cast<char>(random());
            break;
        case 2:
            bytes.replace(at, std::min<size_t>(length, 8),
                          reinterpret_cast<const char*>(&kExtremes[random() % std::size(kExtremes)]),
                          std::min<size_t>(length, 8));
            break;
        case 3:
            bytes.erase(at, length);
            break;
        case 4:
            bytes.insert(at, bytes.substr(at, length));
            break;
        default:
            bytes.replace(at, length, bytes.substr(random() % bytes.size(), length));
            break;
    }
}

}  // namespace tierd::test
