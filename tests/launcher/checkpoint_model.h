// A small model for checkpoint tests, on any number of ranks: dense tensors everywhere with moments sharded
// over the ranks, experts with their moments on one owner each, and a state. Every number is random bits that
// tell name and element.
#pragma once

#include <cstring>
#include <limits>
#include <list>
#include <string>
#include <vector>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/checkpoint_choice.h"
#include "runtime/random.h"
#include "runtime/range.h"

namespace unipool {

struct CheckpointModel {
  // Dense tensors are cut among the ranks after `shift` elements, so that two layouts of equal size differ
  // too.
  CheckpointModel(int rank, int num_ranks, uint64_t seed, int shift = 0, int num_experts = 5) : seed_(seed) {
    AddDense("model.embed_tokens.weight", {11, 3}, rank, num_ranks, shift);
    AddDense("model.norm.weight", {7}, rank, num_ranks, shift);
    AddDense("model.layers.0.mlp.router.scale", {1}, rank, num_ranks, 0);
    for (int i = 0; i < num_experts; ++i) {
      const Range mine = EvenPartition(num_experts, num_ranks, rank);
      if (i < mine.begin || i >= mine.end) continue;
      const std::string name = "model.pool.experts." + std::to_string(i) + ".up_proj.weight";
      Add(name, {4, 3}, true);
      AddPiece(name, {0, 12}, true);
    }
    doubles_.emplace_back(num_experts);
    view.state.push_back({"shares",
                          {num_experts},
                          Tensor(doubles_.back().data(), DType::kF64, {num_experts}),
                          rank == 0,
                          false});
    view.config_text = "model {\n  hidden: 3\n}\n";
    view.hf_config_json = "{}\n";
  }

  // Bits of element i of `name`: mostly ordinary floats, some of them the largest, denormal or negative zero.
  float Value(const std::string& name, int64_t i) const {
    static const uint32_t rare[] = {0x7f7fffff, 0xff7fffff, 0x80000000, 0x00000001};
    const uint64_t random = RandomBits(HashBytes(name) ^ seed_, i);
    const uint32_t bits =
        random % 16 < 4 ? rare[random % 4] : static_cast<uint32_t>(random >> 32) & 0xbfffffff;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  void Fill() {
    Visit([](auto& place, auto value) { place = value; });
  }
  void Poison() {
    Visit([](auto& place, auto) { std::memset(&place, 0xA5, sizeof(place)); });
  }
  // Number of elements whose bits are wrong.
  int Wrong() {
    int wrong = 0;
    Visit([&](auto& place, auto value) { wrong += std::memcmp(&place, &value, sizeof(place)) != 0; });
    return wrong;
  }

  CheckpointView view;

 private:
  template <class Body>
  void Visit(Body&& body) {
    auto visit = [&](const std::string& name, const Tensor& tensor, int64_t first) {
      for (int64_t i = 0; i < tensor.size(); ++i) body(tensor.as<float>()[i], Value(name, first + i));
    };
    for (DiskTensor& tensor : view.tensors) visit(tensor.name, tensor.value, 0);
    for (OptimizerPiece& piece : view.pieces) {
      visit("m" + piece.name, piece.first_moment, piece.elements.begin);
      visit("v" + piece.name, piece.second_moment, piece.elements.begin);
    }
    for (DiskTensor& tensor : view.state) {
      for (int64_t i = 0; i < tensor.value.size(); ++i) {
        body(tensor.value.as<double>()[i], RandomUniform(HashBytes(tensor.name) ^ seed_, i));
      }
    }
  }

  Tensor NewTensor(int64_t size) {
    floats_.emplace_back(size);
    return Tensor(floats_.back().data(), DType::kF32, {size});
  }
  void Add(const std::string& name, std::vector<int64_t> shape, bool writes) {
    int64_t size = 1;
    for (int64_t dim : shape) size *= dim;
    view.tensors.push_back({name, std::move(shape), NewTensor(size), writes, false});
  }
  void AddPiece(const std::string& name, Range elements, bool writes) {
    if (elements.size() == 0) return;
    view.pieces.push_back({name, elements, NewTensor(elements.size()), NewTensor(elements.size()), writes});
  }
  void AddDense(const std::string& name, std::vector<int64_t> shape, int rank, int num_ranks, int shift) {
    Add(name, std::move(shape), rank == 0);
    const int64_t size = view.tensors.back().value.size();
    Range mine = EvenPartition(size - shift, num_ranks, rank);
    mine.end += shift;
    if (rank != 0) mine.begin += shift;
    AddPiece(name, mine, true);
  }

  uint64_t seed_;
  std::list<std::vector<float>> floats_;
  std::list<std::vector<double>> doubles_;
};

}  // namespace unipool
