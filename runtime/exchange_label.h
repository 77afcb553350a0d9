// What an exchange between ranks is for, in the words of the schedule. The watchdog shows it, and reports of
// traffic count by it.
#pragma once

#include <cstdint>

namespace unipool {

struct ExchangeLabel {
  const char* operation = "exchange";  // "dispatch forward", "gradient reduce", ...; a static string
  int64_t step = -1;                   // -1: not part of a step
  int slot = -1;                       // -1: not part of a slot
};

}  // namespace unipool
