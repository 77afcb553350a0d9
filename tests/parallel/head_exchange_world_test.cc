// Each stage gets the rows of its share of every microbatch, and the last stage gets back what the stages
// made of them, on every layout of the ranks.
#include "parallel/head_exchange.h"
#include "runtime/range.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kColumns = 3;

double Value(int data_rank, int microbatch, int64_t token, int column) {
  return ((data_rank * 100.0 + microbatch) * 100 + static_cast<double>(token)) * 10 + column;
}

// Microbatch m has m + 1 tokens: shares may be empty.
class Shares : public SpreadHead {
 public:
  explicit Shares(const Mesh& mesh) : mesh_(mesh), last_(mesh.shape().stages - 1) {}

  Tensor HeadRows(int m, int share_of) override { return Of(rows_, m, share_of); }
  Tensor HeadGradients(int m, int share_of) override { return Of(gradients_, m, share_of); }
  void BeginHead(int m) override {
    for (int64_t i = 0; i < (m + 1) * kColumns; ++i) {
      rows_[i] = Value(mesh_.data_rank(), m, i / kColumns, static_cast<int>(i % kColumns));
      gradients_[i] = -1;
    }
  }
  void RunHead(int m) override {
    const Range share = EvenPartition(m + 1, last_ + 1, mesh_.position().stage);
    const Tensor rows = HeadRows(m, mesh_.position().stage),
                 gradients = HeadGradients(m, mesh_.position().stage);
    EXPECT_EQ(rows.dim(0), share.size());
    for (int64_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows.as<double>()[i],
                Value(mesh_.data_rank(), m, share.begin + i / kColumns, static_cast<int>(i % kColumns)));
      gradients.as<double>()[i] = 7 * rows.as<double>()[i];
    }
  }
  void RunHeadRest(int) override {}
  double HeadRest(int) const override { return 0; }
  void EndHead(int m) override {
    for (int64_t i = 0; i < (m + 1) * kColumns; ++i) EXPECT_EQ(gradients_[i], 7 * rows_[i]) << i;
  }

 private:
  Tensor Of(std::vector<double>& numbers, int m, int share_of) {
    const Range share = EvenPartition(m + 1, last_ + 1, share_of);
    const bool is_last = mesh_.position().stage == last_;
    return Tensor(numbers.data() + (is_last ? share.begin * kColumns : 0), DType::kF64,
                  {share.size(), kColumns});
  }
  const Mesh& mesh_;
  const int last_;
  std::vector<double> rows_ = std::vector<double>(100), gradients_ = std::vector<double>(100);
};

TEST(HeadExchange, SharesGoOutAndTheirGradientsComeBack) {
  RunOnRanks([](World& world) {
    for (int stages = 2; stages <= world.size(); ++stages) {
      if (world.size() % stages != 0) continue;
      const Mesh mesh(*world.communicator, {.stages = stages, .data = world.size() / stages});
      const SlotSchedule schedule(std::vector<int>(stages, 1), 9, false, HeadPlace::kSpread);
      Shares head(mesh);
      HeadExchange exchange(mesh);
      exchange.Begin(schedule, &head, 4);
      const bool is_last = mesh.position().stage + 1 == stages;
      int num_microbatches = 0;
      for (int time = 0; time < schedule.num_times(); ++time) {
        const int microbatch = schedule.SpreadHead(time);
        if (microbatch < 0) continue;
        ++num_microbatches;
        if (is_last) head.BeginHead(microbatch);
        exchange.Start(HeadExchange::Way::kRows, microbatch, time);
        EXPECT_EQ(exchange.microbatch(), microbatch);
        exchange.Wait();
        EXPECT_FALSE(exchange.under_way());
        head.RunHead(microbatch);
        exchange.Start(HeadExchange::Way::kGradients, microbatch, time);
        exchange.Wait();
        if (is_last) head.EndHead(microbatch);
      }
      EXPECT_EQ(num_microbatches, 9);
    }
  });
}

}  // namespace
}  // namespace unipool
