// A seed that is new in every run (fresh_seed.h) and the same on every rank.
#pragma once

#include "runtime/world.h"
#include "tests/fresh_seed.h"

namespace unipool {

inline uint64_t SharedSeed(const World& world) {
  uint64_t seed = FreshSeed();
  world.communicator->Broadcast(&seed, sizeof(seed), 0, {.operation = "seed"});
  return seed;
}

}  // namespace unipool
