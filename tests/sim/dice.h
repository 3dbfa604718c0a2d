// dice.h - every choice that a simulated run makes, drawn from its seed: the same seed, the same run.
//
// Callers:   one run's thread.
#pragma once

#include <cstdint>
#include <vector>

namespace tierd::sim {

class Dice {
  public:
    explicit Dice(uint64_t seed) : state_(seed) {}

    // splitmix64: cheap to seed, which a run of a few hundred steps does once.
    uint64_t next() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    // 0 .. n-1; n is not 0.
    uint64_t below(uint64_t n) { return next() % n; }
    uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
    bool chance(uint32_t of_1000) { return below(1000) < of_1000; }
    template <class T>
    T& pick(std::vector<T>& from) {
        return from[below(from.size())];
    }

  private:
    uint64_t state_;
};

}  // namespace tierd::sim
