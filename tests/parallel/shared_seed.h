// A seed that is new in every run and the same on every rank.
#pragma once

#include <random>

#include "runtime/world.h"

namespace unipool {

inline uint64_t SharedSeed(const World& world) {
  uint64_t seed = std::random_device{}();
  world.communicator->Broadcast(&seed, sizeof(seed), 0, {.operation = "seed"});
  return seed;
}

}  // namespace unipool
