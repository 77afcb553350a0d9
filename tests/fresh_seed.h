// Seeds of tests. They are new in every run and can be repeated: a test that fails prints its seed N through
// SCOPED_TRACE(SeedText()), and UNIPOOL_TEST_SEED=N sets it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace unipool {

// The seed of this process.
inline uint64_t FreshSeed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("UNIPOOL_TEST_SEED");
    return text ? std::strtoull(text, nullptr, 10) : uint64_t{std::random_device{}()};
  }();
  return seed;
}

inline std::string SeedText(uint64_t seed = FreshSeed()) {
  return "again with UNIPOOL_TEST_SEED=" + std::to_string(seed);
}

}  // namespace unipool
