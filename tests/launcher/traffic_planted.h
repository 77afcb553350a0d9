// Runs with something planted in them: a slow rank, a hot expert, a slow wire.
#pragma once

#include <gtest/gtest.h>

#include <random>

#include "tests/launcher/shared_ports.h"
#include "tests/launcher/traffic_example.h"

namespace unipool {

struct Planted {
  int world = 4, layers = 4, steps = 3;
  std::vector<double> compute_us = {100, 100, 100, 100};  // between exchanges, by rank
  std::vector<double> rows = {1, 1, 1, 1};                // that a rank receives, to the mean, in hot_layer
  int hot_layer = -1;                                     // -1: in none; -2: in all
  std::vector<std::vector<double>> megabytes_per_second;  // [from][to]; empty: 1000 everywhere
  std::vector<double> port_megabytes_per_second;          // of all bytes of a rank, each way; empty: no limit
  SharedPorts ports = {};         // that all blocks share; none: wires are as said above
  double late_us = 0;             // a block is seen so much later, at most
  std::vector<double> held_us;    // beyond the end of the wire in each wait, by rank; empty: none
  bool buffered = false;          // a sender does not wait until its bytes have gone
  bool sees_arrivals = false;     // of each peer's bytes
  bool has_bursts = false;        // every third exchange goes at once
  bool sends_in_turn = false;     // a sender serves the ranks after it one by one
  bool backward_is_idle = false;  // nothing is exchanged in the backward lane
  int64_t first_begin_ns = 1'000'000;
  uint32_t seed = 1;
};

// Blocks come through shared ports, and each rank waits for those that it gets.
inline void AddShared(const Planted& planted, std::mt19937& random, const std::vector<int64_t>& start,
                      ExampleExchange& exchange) {
  std::uniform_real_distribution<double> late(0, 1000 * planted.late_us + 1);
  const PortTimes times(planted.ports, exchange.bytes, start);
  for (size_t r = 0; r < start.size(); ++r) {
    int64_t last = exchange.calls[r].wait_enter;
    for (size_t p = 0; p < start.size(); ++p) {
      if (p == r) continue;
      exchange.arrivals[p][r] = std::llround(times.arrivals()[p][r] + late(random));
      last = std::max(last, exchange.arrivals[p][r]);
    }
    exchange.calls[r].wait_leave = last;
  }
}

// All ranks compute, exchange rows, wait for them, and compute again.
inline void AddPlanted(ExampleRun& run, const Planted& planted, int first_step = 0) {
  std::mt19937 random(planted.seed);
  std::uniform_real_distribution<double> around(0.8, 1.2);
  const auto world = static_cast<size_t>(planted.world);
  std::vector<int64_t> now(world, planted.first_begin_ns);
  for (int step = 0; step < planted.steps; ++step) {
    const int64_t begin = *std::max_element(now.begin(), now.end());
    now.assign(world, begin);
    std::vector<ExampleExchange> exchanges;
    for (int i = 0; i < (planted.backward_is_idle ? 1 : 2) * planted.layers; ++i) {
      ExampleExchange exchange;
      const bool forward = i < planted.layers;
      exchange.lane = forward ? 0 : 1;
      exchange.layer = forward ? i : 2 * planted.layers - 1 - i;
      exchange.operation = forward ? "dispatch forward" : "dispatch backward";
      exchange.slot_time = i;
      exchange.bytes.assign(world, std::vector<int64_t>(world, 0));
      exchange.calls.resize(world);
      if (planted.sees_arrivals) exchange.arrivals.assign(world, std::vector<int64_t>(world, 0));
      for (size_t from = 0; from < world; ++from) {
        for (size_t to = 0; to < world; ++to) {
          const double hot =
              exchange.layer == planted.hot_layer || planted.hot_layer == -2 ? planted.rows[to] : 1;
          exchange.bytes[from][to] = 8 * std::llround(5000 * hot * around(random));
        }
      }
      int64_t last = 0;
      for (size_t r = 0; r < world; ++r) {
        now[r] += std::llround(1000 * planted.compute_us[r] * (0.95 + 0.1 * around(random) / 1.2));
        exchange.calls[r] = {.start = now[r], .wait_enter = now[r] + 5, .wait_leave = 0};
        last = std::max(last, now[r]);
      }
      std::vector<double> port(world, 0);  // ns that the bytes of a rank take through its port
      for (size_t r = 0; r < world && !planted.port_megabytes_per_second.empty(); ++r) {
        int64_t out = 0, in = 0;
        for (size_t p = 0; p < world; ++p) {
          out += p == r ? 0 : exchange.bytes[r][p];
          in += p == r ? 0 : exchange.bytes[p][r];
        }
        port[r] = 1000.0 * static_cast<double>(std::max(out, in)) / planted.port_megabytes_per_second[r];
      }
      if (!planted.ports.out.empty()) {
        AddShared(planted, random, now, exchange);
        for (size_t r = 0; r < world; ++r) now[r] = exchange.calls[r].wait_leave;
        exchanges.push_back(exchange);
        continue;
      }
      for (size_t r = 0; r < world; ++r) {
        double wire = 0;  // ns
        const double held = planted.held_us.empty() ? 0 : 1000 * planted.held_us[r];
        for (size_t p = 0; p < world; ++p) {
          const auto rate = [&](size_t from, size_t to) {
            return planted.megabytes_per_second.empty() ? 1000.0 : planted.megabytes_per_second[from][to];
          };
          if (p == r) continue;
          double from =
              std::max({port[p], port[r], 1000.0 * static_cast<double>(exchange.bytes[p][r]) / rate(p, r)});
          if (planted.sends_in_turn) from *= static_cast<double>((r + world - p) % world) / (world - 1.0);
          if (planted.has_bursts && i % 3 == 0) from = 0;
          wire = std::max(wire, from);
          if (planted.sees_arrivals) {
            const int64_t both = std::max(exchange.calls[p].wait_enter, exchange.calls[r].wait_enter);
            exchange.arrivals[p][r] = both + std::llround(from + held);
          }
          if (!planted.buffered)
            wire = std::max(wire, 1000.0 * static_cast<double>(exchange.bytes[r][p]) / rate(r, p));
        }
        exchange.calls[r].wait_leave = now[r] = last + 5 + std::llround(wire + held);
      }
      exchanges.push_back(exchange);
    }
    run.AddStep(first_step + step, begin, *std::max_element(now.begin(), now.end()) + 10, exchanges);
  }
}

}  // namespace unipool
