// The forward lane's rows are gathered and sent on the communication queue, beside weight gradients. Two
// events order that queue and the compute queue around it, also where no row leaves the rank.
#include <gtest/gtest.h>

#include "parallel/device_links.h"
#include "parallel/nccl_communicator.h"
#include "parallel/slot_executor.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/device/device_rank.h"
#include "tests/parallel/device/fake_nccl.h"

namespace unipool {
namespace {

using emulation::Access;
using emulation::kAllPolicies;

constexpr std::chrono::milliseconds kTimeout{30'000};
constexpr int kTokens = 6, kColumns = 4, kMicrobatches = 7, kInFlight = 3, kRanks = 2;

// Each rank has one expert. By turns a microbatch's tokens stay on their rank, all leave it, and every other
// token goes to rank 0.
int OwnerOf(int source, int microbatch, int token) {
  return microbatch % 3 == 0 ? source : microbatch % 3 == 1 ? 1 - source : token % 2;
}
float Value(int source, int microbatch, int token, int column) {
  return static_cast<float>(((source * 10 + microbatch) * 10 + token) * 10 + column);
}
// Tokens of a source that go to an owner, in order.
std::vector<int> TokensTo(int owner, int source, int microbatch) {
  std::vector<int> tokens;
  for (int t = 0; t < kTokens; ++t) {
    if (OwnerOf(source, microbatch, t) == owner) tokens.push_back(t);
  }
  return tokens;
}

// Work on the device's queues that says what it reads and writes.
class Work {
 public:
  explicit Work(DeviceRank& device) : device_(device) {}
  void Do(DeviceQueue queue, const char* name, const Tensor& reads, const Tensor& writes,
          std::function<void()> work) {
    std::vector<Access> accesses;
    if (reads.bytes() > 0) accesses.push_back({reads.data, reads.bytes(), false});
    if (writes.bytes() > 0) accesses.push_back({writes.data, writes.bytes(), true});
    static_cast<emulation::KernelQueue*>(device_.context.queue(queue))
        ->Enqueue(name, std::move(accesses), std::move(work));
  }
  Tensor Allocate(int64_t rows) {
    buffers_.push_back(device_.Allocate(rows * kColumns * int64_t{sizeof(float)}));
    return buffers_.back().View(DType::kF32, {rows, kColumns});
  }
  // The rows of these tokens, in order, times `factor`.
  void Compare(const float* rows, int source, int microbatch, const std::vector<int>& tokens, float factor) {
    for (size_t i = 0; i < tokens.size() * kColumns; ++i) {
      const float expected =
          factor * Value(source, microbatch, tokens[i / kColumns], static_cast<int>(i % kColumns));
      num_wrong += rows[i] != expected;
      ++num_compared;
    }
  }
  int num_wrong = 0, num_compared = 0;

 private:
  DeviceRank& device_;
  std::vector<Buffer> buffers_;
};

// One layer. Its hidden states are the only ones: the next microbatch writes over them.
class OneLayer : public PipelineStage {
 public:
  OneLayer(const Mesh& mesh, const ExpertPlacement& placement, DeviceRank& device)
      : rank_(mesh.pool().rank()), placement_(placement), work_(device), hidden_(work_.Allocate(kTokens)) {
    for (int i = 0; i < kInFlight; ++i) {
      handles_.push_back({SendPlan(placement)});
      for (auto& lane : returned_) lane.push_back(work_.Allocate(kTokens));
    }
  }
  const Work& work() const { return work_; }

  void ForwardRoute(int m, int) override {
    work_.Do(DeviceQueue::kCompute, "route", {}, hidden_, [this, m] {
      for (int t = 0; t < kTokens; ++t) {
        for (int c = 0; c < kColumns; ++c) hidden_.as<float>()[t * kColumns + c] = Value(rank_, m, t, c);
      }
    });
  }
  bool counts_on_device() const override { return true; }
  void Plan(int m, int, const ExchangeLabel&) override {
    SendPlan& plan = handles_[m % kInFlight].plan;
    for (int place = 0; place < kRanks; ++place)
      plan.rows_of_expert[place] = static_cast<int32_t>(TokensTo(place, rank_, m).size());
    BuildSendPlan(placement_, plan);
  }
  const DispatchHandle& Handle(int m, int) override { return handles_[m % kInFlight]; }
  void ForwardPermute(int m, int, const Tensor& rows, DeviceQueue queue) override {
    work_.Do(queue, "permute", hidden_, rows, [this, m, to = rows.as<float>()]() mutable {
      for (int owner = 0; owner < kRanks; ++owner) {
        for (const int t : TokensTo(owner, rank_, m))
          to = std::copy_n(hidden_.as<float>() + t * kColumns, kColumns, to);
      }
    });
  }
  Tensor ReturnedRows(Lane lane, int m, int) override { return Returned(lane, m); }
  void ForwardUnpermute(int m, int) override { CompareReturned(Lane::kForward, m, 2); }
  void BackwardUnpermute(int m, int, const Tensor& rows) override {
    const float* from = Returned(Lane::kForward, m).as<float>();
    work_.Do(DeviceQueue::kCompute, "unpermute backward", Returned(Lane::kForward, m), rows,
             [from, to = rows.as<float>()] { std::copy_n(from, kTokens * kColumns, to); });
  }
  void BackwardPermute(int m, int) override { CompareReturned(Lane::kBackward, m, 6); }

  Tensor ForwardInput(int) override { return {}; }
  Tensor ForwardOutput(int) override { return {}; }
  Tensor BackwardInput(int) override { return {}; }
  Tensor BackwardOutput(int) override { return {}; }
  void BeginForward(int) override {}
  void Head(int, int, int) override {}
  void EndForward(int) override {}
  void BackwardRoute(int, int) override {}
  void EndBackward(int) override {}

 private:
  const Tensor& Returned(Lane lane, int m) const { return returned_[static_cast<int>(lane)][m % kInFlight]; }
  void CompareReturned(Lane lane, int m, float factor) {
    const Tensor& rows = Returned(lane, m);
    work_.Do(DeviceQueue::kCompute, "compare", rows, {}, [this, m, factor, at = rows.as<float>()]() mutable {
      for (int owner = 0; owner < kRanks; ++owner) {
        const std::vector<int> tokens = TokensTo(owner, rank_, m);
        work_.Compare(at, rank_, m, tokens, factor);
        at += tokens.size() * kColumns;
      }
    });
  }

  const int rank_;
  const ExpertPlacement& placement_;
  Work work_;
  const Tensor hidden_;
  std::vector<DispatchHandle> handles_;
  std::vector<Tensor> returned_[2];  // per lane
};

// An expert that doubles what comes forward, and triples what comes backward.
class OneExpert : public ExpertHost {
 public:
  OneExpert(int rank, DeviceRank& device) : rank_(rank), work_(device) {}
  const Work& work() const { return work_; }
  void Forward(const OwnerBatch& batch, const Tensor&, const Tensor& y) override {
    Multiply("experts", batch.x, y, 2, num_forwards_++);
  }
  void BackwardInput(const OwnerBatch& batch, const Tensor& dx) override {
    Multiply("experts backward", batch.dy, dx, 3, -1);
  }
  void BackwardWeights(const OwnerBatch& batch, WeightPart) override {
    work_.Do(DeviceQueue::kCompute, "weight gradients", batch.dy, {}, [] {});
  }

 private:
  // x of microbatch m is compared with what its tokens hold; m = -1: it is not.
  void Multiply(const char* name, const Tensor& x, const Tensor& y, float factor, int m) {
    work_.Do(DeviceQueue::kCompute, name, x, y, [this, x, y, factor, m] {
      const float* from = x.as<float>();
      for (int64_t i = 0; i < x.size(); ++i) y.as<float>()[i] = factor * from[i];
      for (int source = 0; source < kRanks && m >= 0; ++source) {
        const std::vector<int> tokens = TokensTo(rank_, source, m);
        work_.Compare(from, source, m, tokens, 1);
        from += tokens.size() * kColumns;
      }
    });
  }
  const int rank_;
  Work work_;
  int num_forwards_ = 0;
};

class FakeNcclLinks : public DeviceLinks {
 public:
  FakeNcclLinks(World& world, DeviceRank& device, const std::shared_ptr<FakeNcclWire>& wire)
      : world_rank_(world.rank()),
        traffic_(std::make_shared<NcclTraffic>(std::make_unique<FakeNccl>(wire, journal_),
                                               device.communication(), *world.communicator, kTimeout)) {}
  std::unique_ptr<Communicator> Device(std::unique_ptr<Communicator> host) override {
    return MakeNcclCommunicator(*host, world_rank_, traffic_);
  }
  std::unique_ptr<Communicator> Host(Communicator&) override { return nullptr; }

 private:
  std::vector<std::string> journal_;
  int world_rank_;
  std::shared_ptr<NcclTraffic> traffic_;
};

void RunSteps(World& world, DeviceRank& device, DeviceLinks& links) {
  const Mesh mesh(*world.communicator, {.data = kRanks}, &links);
  const ExpertPlacement placement = ContiguousPlacement(kRanks, kRanks);
  const SlotSchedule schedule({1}, kMicrobatches);
  TokenDispatcher dispatcher(mesh, placement, schedule, {.row_size = kColumns, .max_rows = kTokens},
                             device.compute, device.memory);
  OneLayer layer(mesh, placement, device);
  OneExpert expert(mesh.pool().rank(), device);
  SlotExecutor executor(mesh, dispatcher, layer, expert, LaneOrder::kInterleaved, &device.context);
  executor.Run(schedule, 0);
  device.context.Drain();
  EXPECT_EQ(layer.work().num_wrong, 0);
  EXPECT_EQ(expert.work().num_wrong, 0);
  EXPECT_EQ(layer.work().num_compared, 2 * kMicrobatches * kTokens * kColumns);
  EXPECT_GT(expert.work().num_compared, 0);
}

TEST(EarlyRows, AreGatheredBehindTheRouterAndReadBehindTheGather) {
  for (const auto policy : kAllPolicies) {
    for (const bool by_nccl : {true, false}) {
      // The fake NCCL's work holds up the host that does it. At random that can be one whose counts a peer
      // needs first.
      if (by_nccl && policy == emulation::RunPolicy::kRandom) continue;
      const auto wire = std::make_shared<FakeNcclWire>();
      const int exit_code = RunWorld({.num_threads = kRanks, .timeout = kTimeout}, [&](World& world) {
        DeviceRank device(policy, FreshSeed() + world.rank());
        if (by_nccl) {
          FakeNcclLinks links(world, device, wire);
          RunSteps(world, device, links);
        } else {
          RunSteps(world, device, *MakeDeviceLinks({}, world, device.communication()).links);
        }
      });
      ASSERT_TRUE(exit_code == 0 && !testing::Test::HasFailure())
          << NameOf(policy) << (by_nccl ? ", NCCL; " : ", staged; ") << SeedText();
    }
  }
}

}  // namespace
}  // namespace unipool
