// What runs give beside each other. Runs that differ in train.seed alone are one group. Each group is
// compared with the first one, seed by seed and at the same step. With equal texts, data.order,
// model.seq_length and train.global_batch equal seeds see the same samples in the same order, so much of what
// chance does is in both and goes away in their difference. Where these differ a note says so.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/reports/earlier_settings.h"
#include "launcher/reports/run_record.h"
#include "launcher/reports/run_texts.h"

namespace unipool {

struct ComparedRun {
  std::string path;
  Config config;
  MetricSeries series;
  std::string left_out = {};  // RunRecord::LeftOut
  EarlierSettings earlier = {};
  RunTexts texts = {};
};
// Of RUN_DIR/config.txtpb, metrics.jsonl and the checkpoints that are left. Nothing where no step is done
// yet. Throws UserError: no run.
std::optional<ComparedRun> ReadComparedRun(const std::string& path);

// A mean over seeds.
struct Estimate {
  double mean = 0;
  std::optional<double> error;  // standard error: standard deviation / sqrt(count); nothing with one seed
  int count = 0;
};
// REQUIRES: not empty.
Estimate EstimateOf(const std::vector<double>& values);

struct RunGroup {
  std::string name;                      // "runs/a", "runs/a-*"
  std::vector<const ComparedRun*> runs;  // seeds rising
  int64_t total = 0, active = 0;         // parameters
  Estimate loss;  // nats; training, mean of the last tenth of the steps up to Comparison::step
  std::optional<Estimate> valid_loss;                          // of the validation at Comparison::valid_step
  std::optional<double> balance, max_violation, dead_experts;  // over the same steps as `loss`; metric_list.h
  double tokens_per_second = 0;                                // median of the steps
  std::optional<Estimate> valid_per_byte;                      // nats a byte of text, of the same validation
  // Against the first group; nothing for that one, where no seed is in both, and where the losses are of
  // other tokens or texts.
  std::optional<Estimate> loss_difference, valid_difference;
  std::optional<Estimate> per_byte_difference;  // of valid_per_byte, where the tokens are others
  std::vector<SettingDifference> settings;      // the first group's (`one`) and this one's (`other`)
  std::vector<std::string> notes;               // what weakens the comparison, clauses (comparison_notes.h)
};

struct Comparison {
  int64_t step = 0;        // the last one that all runs have
  int64_t valid_step = 0;  // the last validation that all runs have; 0: there is none
  std::vector<RunGroup> groups;
  // At some steps: the mean difference of each group but the first, in validation loss where there is one.
  struct Row {
    int64_t step = 0;
    std::vector<std::optional<Estimate>> differences;
  };
  std::vector<Row> rows;
};
// The runs outlive the comparison. Throws UserError: fewer than two groups or runs, one run named twice, two
// runs of the same settings and seed, no common step.
Comparison Compare(const std::vector<ComparedRun>& runs);

std::string ComparisonText(const Comparison& comparison, bool utf8);
nlohmann::json ComparisonJson(const Comparison& comparison);

}  // namespace unipool
