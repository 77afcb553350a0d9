// What a rank's time goes to, in pieces that the slot executor and the planner name alike, and how long
// each takes on a described or measured processor.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace unipool {

// Each with the unit of its amount and what is counted of one unit.
enum class WorkKind : int {
  kDenseForward,    // tokens of one layer and microbatch; floating-point operations of attention and router
  kDenseBackward,   // the same of their backward
  kExpertsForward,  // rows that reached the rank in a slot; operations
  kExpertsInput,    // the same, input gradients
  kExpertsWeights,  // the same, weight gradients; in two parts
  kHead,            // tokens of one microbatch; operations of the head in both directions; in parts
  kRows,            // rows that are gathered, summed or copied for the wire; bytes
  kOptimizer,       // parameters that the rank updates; bytes
};
inline constexpr int kNumWorkKinds = 8;
const char* NameOf(WorkKind kind);

// A part of a piece of work. Of weight gradients two parts, 2 : 1 (pipeline_stage.h).
struct WorkPart {
  int begin = 0, end = 1, num_parts = 1;
  double share = 0;    // not 0: this part is so much of the piece, whatever its number
  double experts = 1;  // of experts' work: how many of them have rows in the piece
};

// Hears of a rank's work: Begin before a piece, End after it.
class WorkMeter {
 public:
  virtual ~WorkMeter() = default;
  virtual void Begin() {}
  virtual void End(WorkKind kind, double amount, const WorkPart& part) = 0;
};

// Runs `work`, and tells the meter of it where there is one.
template <class Body>
void Metered(WorkMeter* meter, WorkKind kind, double amount, const WorkPart& part, Body&& work) {
  if (meter) meter->Begin();
  work();
  if (meter) meter->End(kind, amount, part);
}

// How fast one kind of work is done.
struct WorkRate {
  struct Point {
    double amount = 0, units_per_second = 0;
    double expert_seconds = 0;  // of each further expert with rows
  };
  double fixed_seconds = 0;   // of each piece, however small
  std::vector<Point> points;  // rising by amount; none: takes no time but fixed_seconds
  // Between two points straight in log(amount); below the first and above the last as there.
  double UnitsPerSecond(double amount) const { return At(amount, &Point::units_per_second); }
  double ExpertSeconds(double amount) const { return At(amount, &Point::expert_seconds); }

 private:
  double At(double amount, double Point::*number) const;
};

// Times of one model on one processor.
struct WorkTimes {
  std::array<WorkRate, kNumWorkKinds> rates;
  std::array<double, kNumWorkKinds> units{};  // operations or bytes of one unit of amount
  int head_chunks = 1;                        // pieces of equal size that parts of the head are made of
  const WorkRate& rate(WorkKind kind) const { return rates[static_cast<int>(kind)]; }
  // Of the whole piece. 0 for an amount of 0.
  double Seconds(WorkKind kind, double amount) const;
  // Of parts [begin, end), by the experts with rows. The head's are even in its chunks.
  double Seconds(WorkKind kind, double amount, const WorkPart& part) const;
};

}  // namespace unipool
