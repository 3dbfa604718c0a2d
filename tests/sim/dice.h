// dice.h - every choice that a simulated run makes, drawn from its seed: the same seed, the same run. Or from a fuzzer's bytes,
// as long as there are some: then the fuzzer chooses.
//
// Callers:   one run's thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tierd::sim {

class Dice {
  public:
    explicit Dice(uint64_t seed, std::span<const uint8_t> choices = {}) : state_(seed), choices_(choices) {}

    uint64_t next() { return draw(8); }
    // 0 .. n-1; n is not 0.
    uint64_t below(uint64_t n) { return draw(n <= 1 << 8 ? 1 : n <= 1 << 16 ? 2 : 8) % n; }
    uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
    bool chance(uint32_t of_1000) { return below(1000) < of_1000; }
    template <class T>
    T& pick(std::vector<T>& from) {
        return from[below(from.size())];
    }

  private:
    // So many bytes of the fuzzer's choices, or any number: a short choice costs the fuzzer one byte to change.
    uint64_t draw(size_t bytes) {
        if (choices_.size() < bytes) return random();
        uint64_t drawn = 0;
        for (uint8_t byte : choices_.first(bytes)) drawn = drawn << 8 | byte;
        choices_ = choices_.subspan(bytes);
        return drawn;
    }
    // splitmix64: cheap to seed, which a run of a few hundred steps does once.
    uint64_t random() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    uint64_t state_;
    std::span<const uint8_t> choices_;
};

}  // namespace tierd::sim
