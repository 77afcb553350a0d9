// All that a report of a run's traffic is made of.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/traffic_report/clock_map.h"
#include "launcher/traffic_report/exchange_waits.h"
#include "launcher/traffic_report/expert_rows.h"
#include "launcher/traffic_report/joined_traffic.h"
#include "launcher/traffic_report/recorded_run.h"
#include "launcher/traffic_report/traffic_figures.h"
#include "launcher/traffic_report/verdict.h"
#include "launcher/traffic_report/what_if.h"

namespace unipool {

struct ReportOptions {
  StepRange steps;
  ExchangeFilter filter;
  bool by_node = false;
};

struct TrafficReport {
  ReportOptions options;
  RecordedRun run;
  std::unique_ptr<ClockMap> clocks;
  JoinedTraffic traffic;  // empty where there are no records
  WaitEvidence evidence;
  TrafficFigures figures;  // by rank, or by node as asked; of the records where there are any
  TrafficFigures windows;  // what the windows say of the same steps or others; no ranks: no windows
  ExpertRows experts;      // of the windows that hold these steps
  WhatIf what_if;
  Verdict verdict;
  std::vector<std::string> notes;  // what is missing, and what would bring it
  bool HasRecords() const { return figures.from_records; }
  const char* UnitName() const { return options.by_node ? "node" : "rank"; }
};

// Throws UserError, as ReadRecordedRun does; also where the filter takes nothing.
TrafficReport MakeTrafficReport(const std::string& run_dir, const ReportOptions& options);

}  // namespace unipool
