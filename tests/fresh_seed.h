// Seeds of tests: new in every run, and repeatable. UNIPOOL_TEST_SEED=N sets them; a test that fails prints N
// through its SCOPED_TRACE(SeedText()).
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace unipool {

// The same within a process.
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
