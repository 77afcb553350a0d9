// A checkpoint in memory: what ranks hold of a run, by name.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "models/training_engine.h"

namespace unipool {

using Memory = std::map<std::string, std::vector<char>>;

// Everything a checkpoint of this rank would hold, by name.
template <class Visit>
void VisitState(TrainingEngine& engine, Visit visit) {
  for (const DiskTensor& tensor : engine.state().ModelTensors()) visit(tensor.name, tensor.value);
  for (const OptimizerPiece& piece : engine.state().Moments()) {
    visit("first/" + piece.name + "/" + std::to_string(piece.elements.begin), piece.first_moment);
    visit("second/" + piece.name + "/" + std::to_string(piece.elements.begin), piece.second_moment);
  }
  for (const DiskTensor& tensor : engine.state().BetweenSteps()) visit("state/" + tensor.name, tensor.value);
}

// What all ranks hold, by name: a checkpoint.
inline Memory Gather(TrainingEngine& engine, World& world) {
  std::string own;
  VisitState(engine, [&](const std::string& name, const Tensor& value) {
    const int64_t sizes[] = {static_cast<int64_t>(name.size()), value.bytes()};
    own.append(reinterpret_cast<const char*>(sizes), sizeof(sizes)).append(name);
    own.append(static_cast<const char*>(value.data), value.bytes());
  });
  Memory all;
  for (const std::string& text : world.communicator->AllGatherText(own, {.operation = "checkpoint"})) {
    for (size_t at = 0; at < text.size();) {
      int64_t sizes[2];
      std::memcpy(sizes, text.data() + at, sizeof(sizes));
      const char* name = text.data() + at + sizeof(sizes);
      const char* data = name + sizes[0];
      all[std::string(name, data)].assign(data, data + sizes[1]);
      at = data + sizes[1] - text.data();
    }
  }
  return all;
}

// Into an engine of the same layout.
inline void Restore(TrainingEngine& engine, const Memory& saved) {
  VisitState(engine, [&](const std::string& name, const Tensor& value) {
    ASSERT_EQ(saved.count(name), 1u) << name;
    const std::vector<char>& bytes = saved.at(name);
    ASSERT_EQ(static_cast<int64_t>(bytes.size()), value.bytes()) << name;
    std::memcpy(value.data, bytes.data(), bytes.size());
  });
  engine.state().AllLoaded();
}

}  // namespace unipool
