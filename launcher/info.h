// `unipool info CONFIG`: what a model weighs, as a table for people and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "configs/config.pb.h"

namespace unipool {

// Keys: vocab_rows, parameters {embedding, head, attention, router, experts, norms, total, active}, world,
// pipeline {layers_per_stage, chosen, microbatches, head_in_layers (its work in dense work of a layer),
// bubble (predicted share of a step that ranks wait, on an infinitely fast wire with level routing),
// bubble_of_even_layers}, and ranks: a list of {rank, stage, layers, experts, parameters, memory_bytes
// {weights, gradients, optimizer, activations, exchange, scratch, total}, and the same with uneven routing:
// memory_bytes_at_imbalance_2 (twice its even share of the rows), memory_bytes_worst_case (all rows)}.
// REQUIRES: ValidateConfig(config, world_size) has passed.
nlohmann::json InfoJson(const Config& config, int world_size);
std::string InfoText(const Config& config, int world_size);

}  // namespace unipool
