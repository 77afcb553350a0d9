// What an exchange between ranks is for, in the words of the schedule. The watchdog shows it, and records of
// traffic count by it.
#pragma once

#include <cstdint>

namespace unipool {

struct ExchangeLabel {
  const char* operation = "exchange";  // "dispatch forward", "gradient reduce", ...; a static string
  int64_t step = -1;                   // -1: not part of a step
  int slot = -1;                       // -1: not part of a slot
  // For records alone. Where in the slot: the lane (0 forward, 1 backward), and the rank's own work there.
  int8_t lane = -1;
  bool to_owners = false;          // the bytes are rows on their way to the experts' owners
  int16_t stage = -1, layer = -1;  // layer of the model
  int32_t microbatch = -1;
  uint32_t row_bytes = 0;  // the bytes are rows of this size; 0: something else
  int64_t kept_bytes = 0;  // bytes of the same kind that stay on this rank and never come to the exchange
};

}  // namespace unipool
