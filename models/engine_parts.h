// What one rank of a run is made of, as data: built once from the configuration, in the order in which each
// part needs the ones above it. Whoever works on them (EngineState, TrainingEngine) is handed all of them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/compute_place.h"
#include "models/expert_replacer.h"
#include "models/expert_use.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "models/size_choice.h"
#include "parallel/slot_executor.h"
#include "runtime/traffic_recorder.h"

namespace unipool {

enum class EngineMode { kTrain, kEvaluate };  // kEvaluate has no gradients and no optimizer state

struct EngineOptions {
  EngineMode mode = EngineMode::kTrain;
  std::optional<DType> dtype;  // instead of what the configuration says: tests compute in double
  // With device: CUDA, the device to use, which outlives the engine; null: the engine makes its own. Not used
  // with device: CPU.
  DeviceContext* device = nullptr;
  // Records the exchanges of training steps between BeginStep and EndStep, which its owner calls; outlives
  // the engine. The owner also made it record the world's communicator. Null: nobody does.
  TrafficRecorder* recorder = nullptr;
  bool shadows_are_free = false;  // made wherever they level loads; tests have too few rows for any to pay
  WorkMeter* meter = nullptr;     // hears of the rank's work; outlives the engine. Null: nobody does.
};

struct EngineParts {
  // Collective over the world, which outlives the parts. REQUIRES: config is valid for this world
  // (launcher/config.h).
  EngineParts(const Config& config, World& world, const EngineOptions& options);

  // How device memory travels and why, and what was chosen by the device's memory; lines for people. Empty on
  // the CPU.
  std::string AboutDevice() const;

  const Config config;
  const ModelSpec spec;
  ComputePlace place;
  const Mesh mesh;
  const std::vector<int> layers_per_stage;
  const SlotSchedule schedule;  // of a training step
  const DeviceSizes sizes;
  ExpertPlacement placement;  // changes between steps only, through the replacer
  WaitClock clock;
  ExpertUse use;
  LanguageModel model;  // this rank's stage
  ExpertPool experts;   // that this rank owns
  TokenDispatcher dispatcher;
  SlotExecutor executor;
  std::optional<Optimizer> optimizer;  // none with kEvaluate
  ExpertReplacer replacer;
};

}  // namespace unipool
