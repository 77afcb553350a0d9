// `unipool info CONFIG`: what a model weighs, as JSON and as a table for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "configs/config.pb.h"

namespace unipool {

// An object with these keys:
//   vocab_rows   rows of embedding and head, padded
//   parameters   {embedding, head, attention, router, experts, norms, total, active}
//   world        {ranks, replicas, stages, data}
//   pipeline     {layers_per_stage, chosen, microbatches, head_in_layers, head, head_chosen, bubble,
//                bubble_of_even_layers, bubble_of_other_head}
//   ranks        a list of {rank, stage, layers, experts, parameters, memory_bytes,
//                memory_bytes_at_imbalance_2, memory_bytes_worst_case}
// head_in_layers is the head's work in units of a layer's dense work. bubble is the predicted share of a step
// that ranks wait, on an infinitely fast wire with level routing; bubble_of_other_head is that of the other
// `head`, with the layers that are best for it. Each memory_bytes is {weights, gradients, optimizer,
// activations, exchange, scratch, total}: the predicted peak with even routing, where the rank gets twice its
// even share of the rows, and where it gets all rows. REQUIRES: ValidateConfig(config, world_size) has
// passed.
nlohmann::json InfoJson(const Config& config, int world_size);
std::string InfoText(const Config& config, int world_size);

}  // namespace unipool
