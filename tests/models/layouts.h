// Ways to lay a model over the ranks, and how far two runs may differ.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/models/training_run.h"

namespace unipool {

struct Layout {
  int stages = 1, replicas = 1;
  ParallelConfig::Experts experts = ParallelConfig::POOL;
  std::vector<int> layers = {};  // per stage; empty: chosen
};

inline std::string NameOf(const Layout& layout) {
  std::string name = Format("stages %d, replicas %d, experts %s", layout.stages, layout.replicas,
                            ParallelConfig::Experts_Name(layout.experts).c_str());
  for (const int layers : layout.layers) name += ", layers " + std::to_string(layers);
  return name;
}

// Every one without given layers.
inline std::vector<Layout> LayoutsOf(int ranks) {
  std::vector<Layout> layouts;
  for (int stages = 1; stages <= ranks; ++stages) {
    for (int replicas = 1; stages * replicas <= ranks; ++replicas) {
      if (ranks % (stages * replicas) != 0) continue;
      layouts.push_back({stages, replicas});
      if (stages > 1) layouts.push_back({stages, replicas, ParallelConfig::PER_STAGE});
    }
  }
  return layouts;
}

inline Config Laid(Config config, const Layout& layout) {
  config.mutable_parallel()->set_stages(layout.stages);
  config.mutable_parallel()->set_pool_replicas(layout.replicas);
  config.mutable_parallel()->set_experts(layout.experts);
  config.mutable_parallel()->mutable_layers_per_stage()->Assign(layout.layers.begin(), layout.layers.end());
  return config;
}

inline void ExpectClose(const std::vector<double>& values, const std::vector<double>& expected,
                        double tolerance, const char* what) {
  ASSERT_EQ(values.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double size = std::max(std::abs(expected[i]), 1e-300);
    worst = std::max(worst, std::abs(values[i] - expected[i]) / size);
  }
  EXPECT_LE(worst, tolerance) << what << ", largest relative difference of " << values.size() << " steps";
}

// Loss, pool loss and gradient norm of every step.
inline void ExpectSameTraining(const RunTrace& trace, const RunTrace& one, double tolerance) {
  ExpectClose(trace.loss, one.loss, tolerance, "loss");
  ExpectClose(trace.pool_loss, one.pool_loss, 10 * tolerance, "pool loss");
  ExpectClose(trace.grad_norm, one.grad_norm, 10 * tolerance, "gradient norm");
}

}  // namespace unipool
