// Barriers, shuffles and votes.
#pragma once

#include <source_location>

#include "tests/cuda_emulation/machine.h"

namespace unipool::emulation {

using Where = std::source_location;

// A lane's value and the lane that it wants the value of; negative: keeps its own.
template <class T>
struct Exchange {
  T value;
  int from;
};

template <class T>
T Shuffle(unsigned mask, T value, int from, const Where& where) {
  const Exchange<T> mine = {value, from};
  T result = value;
  Machine::Current().Together(
      mask,
      [](const void* const in[32], void* const out[32]) {
        for (int lane = 0; lane < 32; ++lane) {
          if (!in[lane]) continue;
          const int from = static_cast<const Exchange<T>*>(in[lane])->from;
          const void* source = in[from < 0 ? lane : from];
          if (!source)
            Machine::Current().Fail("a shuffle reads lane " + std::to_string(from) +
                                    ", which its mask lacks");
          *static_cast<T*>(out[lane]) = static_cast<const Exchange<T>*>(source)->value;
        }
      },
      &mine, &result, where);
  return result;
}

// The lane within the own group of `width` lanes, or -1.
inline int LaneInGroup(int lane, int target, int width) {
  const int group = lane / width * width;
  return target >= group && target < group + width ? target : -1;
}

inline unsigned Ballot(unsigned mask, bool vote, const Where& where) {
  unsigned result = 0;
  Machine::Current().Together(
      mask,
      [](const void* const in[32], void* const out[32]) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if (in[lane] && *static_cast<const bool*>(in[lane])) votes |= 1u << lane;
        }
        for (int lane = 0; lane < 32; ++lane) {
          if (out[lane]) *static_cast<unsigned*>(out[lane]) = votes;
        }
      },
      &vote, &result, where);
  return result;
}

// Of each lane, the lanes that have the same value.
template <class T>
unsigned Match(unsigned mask, T value, const Where& where) {
  unsigned result = 0;
  Machine::Current().Together(
      mask,
      [](const void* const in[32], void* const out[32]) {
        for (int lane = 0; lane < 32; ++lane) {
          if (!in[lane]) continue;
          unsigned equal = 0;
          for (int other = 0; other < 32; ++other) {
            if (in[other] && *static_cast<const T*>(in[other]) == *static_cast<const T*>(in[lane]))
              equal |= 1u << other;
          }
          *static_cast<unsigned*>(out[lane]) = equal;
        }
      },
      &value, &result, where);
  return result;
}

}  // namespace unipool::emulation

using UnipoolWhere = std::source_location;
#define UNIPOOL_HERE const UnipoolWhere& where = UnipoolWhere::current()

inline void __syncthreads(UNIPOOL_HERE) {
  unipool::emulation::Machine::Current().Barrier(where);
}
inline int __syncthreads_count(int vote, UNIPOOL_HERE) {
  return unipool::emulation::Machine::Current().CountingBarrier(vote != 0, where);
}
inline int __syncthreads_or(int vote, UNIPOOL_HERE) {
  return __syncthreads_count(vote, where) > 0;
}
inline int __syncthreads_and(int vote, UNIPOOL_HERE) {
  return __syncthreads_count(vote == 0, where) == 0;
}
inline unsigned __ballot_sync(unsigned mask, int vote, UNIPOOL_HERE) {
  return unipool::emulation::Ballot(mask, vote != 0, where);
}
inline int __any_sync(unsigned mask, int vote, UNIPOOL_HERE) {
  return __ballot_sync(mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, UNIPOOL_HERE) {
  return __ballot_sync(mask, !vote, where) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, UNIPOOL_HERE) {
  return unipool::emulation::Match(mask, value, where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, UNIPOOL_HERE) {
  unipool::emulation::Ballot(mask, false, where);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, UNIPOOL_HERE) {
  const int self = unipool::emulation::Machine::Current().lane();
  return unipool::emulation::Shuffle(mask, value, self / width * width + (lane & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, UNIPOOL_HERE) {
  const int self = unipool::emulation::Machine::Current().lane(), target = self ^ lane_mask;
  return unipool::emulation::Shuffle(mask, value, target < self / width * width + width ? target : -1, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, UNIPOOL_HERE) {
  const int self = unipool::emulation::Machine::Current().lane();
  return unipool::emulation::Shuffle(
      mask, value, unipool::emulation::LaneInGroup(self, self + static_cast<int>(delta), width), where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, UNIPOOL_HERE) {
  const int self = unipool::emulation::Machine::Current().lane();
  return unipool::emulation::Shuffle(
      mask, value, unipool::emulation::LaneInGroup(self, self - static_cast<int>(delta), width), where);
}
