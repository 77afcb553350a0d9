#include "kernels/adamw.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaAdamW = CudaTest;

constexpr Bound kBound = {.relative = 2e-6, .absolute = 1e-7};
const AdamWArgs kArgs = {
    .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .weight_decay = 0.1, .grad_scale = -0.5, .step = 3};

enum class Grad { kMissing, kUnderTest, kF32 };
enum class ModelCopy { kNone, kUnderTest, kBF16 };
struct Member {
  int64_t n;
  Grad grad = Grad::kUnderTest;
  ModelCopy copy = ModelCopy::kNone;
};
struct Group {
  const char* name;
  std::vector<Member> members;
};
std::ostream& operator<<(std::ostream& out, const Group& group) {
  return out << group.name;
}

// A group's arrays in a case.
class GroupArrays {
 public:
  GroupArrays(CudaCase& c, const Group& group) {
    for (const Member& member : group.members) Add(c, member);
  }
  std::vector<AdamWTensors> TensorsOf(const CaseTensors& t) const {
    std::vector<AdamWTensors> tensors;
    for (const Handles& handles : members_) {
      AdamWTensors& last = tensors.emplace_back();
      last.param = t[handles.param];
      last.m = t[handles.m];
      last.v = t[handles.v];
      if (handles.grad.index >= 0) last.grad = t[handles.grad];
      if (handles.copy.index >= 0) last.copy = t[handles.copy];
    }
    return tensors;
  }

 private:
  struct Handles {
    CudaCase::Handle param, m, v, grad = {-1}, copy = {-1};
  };
  // In unaligned cases only the arrays under test are so: the gradient and the copy.
  void Add(CudaCase& c, const Member& member) {
    Handles& h =
        members_.emplace_back(Handles{c.InOut("param", {member.n}, -1, 1, kBound, ArrayType::kAccumulator),
                                      c.InOut("m", {member.n}, -1, 1, kBound, ArrayType::kAccumulator),
                                      c.InOut("v", {member.n}, 0, 1, kBound, ArrayType::kAccumulator)});
    const auto type = [](bool under_test, ArrayType other) { return under_test ? ArrayType::kData : other; };
    if (member.grad != Grad::kMissing) {
      h.grad = c.In("grad", {member.n}, -2, 3, type(member.grad == Grad::kUnderTest, ArrayType::kF32));
    }
    if (member.copy != ModelCopy::kNone) {
      h.copy =
          c.Out("copy", {member.n}, kBound, type(member.copy == ModelCopy::kUnderTest, ArrayType::kBF16));
    }
  }
  std::vector<Handles> members_;
};

std::vector<Group> Groups() {
  std::vector<Group> groups = {
      {"nothing", {}},
      {"sizes off the pack and the block",
       {{0}, {1}, {7}, {4096}, {4097}, {8191, Grad::kUnderTest, ModelCopy::kUnderTest}, {4}}},
      {"missing gradients and copies in all types",
       {{33, Grad::kMissing},
        {100, Grad::kMissing, ModelCopy::kBF16},
        {65, Grad::kF32, ModelCopy::kBF16},
        {1030, Grad::kUnderTest, ModelCopy::kBF16},
        {12, Grad::kF32, ModelCopy::kUnderTest},
        {5000, Grad::kF32}}},
      {"more tensors than a launch takes", {}}};
  for (int64_t i = 0; i < 131; ++i) groups.back().members.push_back({i % 5 + 1});
  return groups;
}

TEST_F(CudaAdamW, Groups) {
  ForEachCase(Groups(), [](CudaCase& c, const Group& group) {
    const GroupArrays arrays(c, group);
    c.Run([&](Stream& stream, const CaseTensors& t) { AdamWGroup(stream, kArgs, arrays.TensorsOf(t)); });
  });
}

// Parts of arrays that begin at any element, each of them elsewhere in its array; F32 with a gradient in F32
// and a copy in BF16, clipped by a norm on the device. Elements between the parts stay.
TEST_F(CudaAdamW, PartsThatBeginAnywhere) {
  constexpr ArrayType kF32 = ArrayType::kF32;
  constexpr int64_t kSize = 9000;
  struct Part {
    int64_t param, grad, m, v, copy, n;
  };
  const std::vector<Part> parts = {{0, 1, 2, 3, 5, 7},
                                   {16, 16, 16, 16, 16, 4100},
                                   {4117, 4117, 4117, 4117, 4117, 9},
                                   {4130, 4133, 4131, 4134, 4135, 1},
                                   {4140, 4141, 4140, 4140, 4140, 500},
                                   {4800, 4800, 4800, 4800, 4801, 4097}};
  CudaCase c({DType::kF32, false}, 1);
  const auto param = c.InOut("param", {kSize}, -1, 1, kBound, kF32),
             m = c.InOut("m", {kSize}, -1, 1, kBound, kF32), v = c.InOut("v", {kSize}, 0, 1, kBound, kF32),
             grad = c.In("grad", {kSize}, -2, 3, kF32);
  const auto copy = c.InOut("copy", {kSize}, -1, 1, kBound, ArrayType::kBF16);
  const auto squares = c.InValues("squares", {1}, {64}, ArrayType::kF64);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    AdamWArgs args = kArgs;
    args.max_grad_norm = 2.5;
    args.grad_squares = t[squares];
    std::vector<AdamWTensors> group;
    for (const Part& part : parts) {
      group.push_back({.param = t[param].Rows(part.param, part.n),
                       .grad = t[grad].Rows(part.grad, part.n),
                       .m = t[m].Rows(part.m, part.n),
                       .v = t[v].Rows(part.v, part.n),
                       .copy = t[copy].Rows(part.copy, part.n)});
    }
    AdamWGroup(stream, args, group);
  });
}

TEST_F(CudaAdamW, OneTensor) {
  ForEachCase({Group{"one", {{70}}}}, [](CudaCase& c, const Group& group) {
    const GroupArrays arrays(c, group);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      const AdamWTensors one = arrays.TensorsOf(t)[0];
      AdamW(stream, kArgs, one.param, one.grad, one.m, one.v);
    });
  });
}

// A norm of 0.5 * 8 = 4, to be clipped to 2.5, and allowed to be 4.5.
TEST_F(CudaAdamW, ClipsByANormOnTheDevice) {
  for (const double most : {2.5, 4.5}) {
    ForEachCase({Group{"clipped", {{70}, {9}}}}, [&](CudaCase& c, const Group& group) {
      const GroupArrays arrays(c, group);
      const auto squares = c.InValues("squares", {1}, {64}, ArrayType::kF64);
      c.Run([&](Stream& stream, const CaseTensors& t) {
        AdamWArgs args = kArgs;
        args.max_grad_norm = most;
        args.grad_squares = t[squares];
        AdamWGroup(stream, args, arrays.TensorsOf(t));
      });
    });
  }
}

// Written only where every number of `finite` is one. A squared norm that only F64 holds is one, and clips.
TEST_F(CudaAdamW, WritesNothingUnlessNumbersAreFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> cases = {{64, 1},    {nan, 1}, {64, nan},
                                                  {64, -inf}, {inf, 1}, {1e60, 1}};
  for (const std::vector<double>& numbers : cases) {
    SCOPED_TRACE(testing::Message() << numbers[0] << ", " << numbers[1]);
    CudaCase c({DType::kF32, false}, 1);
    constexpr int64_t kSize = 5000;
    const auto param = c.InOut("param", {kSize}, -1, 1, kBound), m = c.InOut("m", {kSize}, -1, 1, kBound),
               v = c.InOut("v", {kSize}, 0, 1, kBound);
    const double scale = numbers[0] == 1e60 ? 1e30 : 1;
    const auto grad = c.In("grad", {kSize}, -2 * scale, 3 * scale);
    const auto copy = c.InOut("copy", {kSize}, -1, 1, kBound, ArrayType::kBF16);
    const auto finite = c.InValues("finite", {2}, numbers, ArrayType::kF64);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      AdamWArgs args = kArgs;
      args.max_grad_norm = 2.5;
      args.grad_squares = t[finite].Rows(0, 1);
      args.finite = t[finite];
      const AdamWTensors one = {.param = t[param], .grad = t[grad], .m = t[m], .v = t[v], .copy = t[copy]};
      AdamWGroup(stream, args, {&one, 1});
    });
  }
}

}  // namespace
}  // namespace unipool
