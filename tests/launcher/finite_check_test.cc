// Numbers that are none: the first one is found, wherever it lies.
#include "launcher/checkpoints/finite_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <vector>

#include "runtime/errors.h"
#include "runtime/world.h"
#include "tests/launcher/checkpoint_model.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

template <class T>
void FindsTheFirst(DType dtype) {
  std::vector<T> numbers(40'000, std::numeric_limits<T>::max());
  numbers[3] = std::numeric_limits<T>::denorm_min();
  const auto size = static_cast<int64_t>(numbers.size());
  const Tensor tensor(numbers.data(), dtype, {size});
  EXPECT_EQ(FirstNotFinite(tensor), "");
  EXPECT_EQ(FirstNotFinite(Tensor(numbers.data(), dtype, {0})), "");
  numbers[39'999] = std::numeric_limits<T>::quiet_NaN();
  EXPECT_EQ(FirstNotFinite(tensor), "element 39999 is nan");
  numbers[16'384] = -std::numeric_limits<T>::infinity();
  EXPECT_EQ(FirstNotFinite(tensor), "element 16384 is -inf");
}

// Found on a rank before anything is written, and told on all.
TEST(FiniteCheck, NumbersThatAreNoneAreNotSaved) {
  const fs::path run = fs::path(testing::TempDir()) / ("finite_check_" + std::to_string(getpid()));
  for (const bool in_moments : {false, true}) {
    RunWorld({.num_threads = 2}, [&](World& world) {
      CheckpointModel model(world.rank(), world.size(), 5);
      model.Fill();
      const Tensor spoilt = in_moments ? model.view.pieces[0].second_moment : model.view.tensors[0].value;
      if (world.rank() == 0) spoilt.as<float>()[2] = std::numeric_limits<float>::quiet_NaN();
      try {
        SaveCheckpoint(*world.communicator, run.string(), 8, model.view, 1);
        ADD_FAILURE() << "it was saved";
      } catch (const UserError& error) {
        EXPECT_THAT(error.what(),
                    testing::AllOf(testing::HasSubstr("step 8"), testing::HasSubstr("is nan"),
                                   testing::HasSubstr(in_moments ? "exp_avg_sq/" : "embed_tokens")));
      }
    });
    EXPECT_FALSE(fs::exists(run));
  }
}

// With the file, and counted from the tensor's first element, not from the piece's.
TEST(FiniteCheck, NamesFileTensorAndElement) {
  std::vector<float> numbers(8, 1), moments(8, 1);
  moments[3] = std::numeric_limits<float>::infinity();
  const Tensor first(numbers.data(), DType::kF32, {8}), second(moments.data(), DType::kF32, {8});
  const std::vector<OptimizerPiece> pieces = {
      {.name = "a", .elements = {100, 108}, .first_moment = first, .second_moment = second, .writes = true}};
  const FileOf file_of = [](const std::string& name, int64_t element) {
    return "file of " + name + " " + std::to_string(element);
  };
  EXPECT_THAT(NotFinite({}, pieces, file_of),
              testing::ElementsAre("file of exp_avg_sq/a 100: exp_avg_sq/a: element 103 is inf"));
  EXPECT_THAT(NotFinite({{.name = "b", .shape = {8}, .value = second}}, {}),
              testing::ElementsAre("b: element 3 is inf"));
  EXPECT_THAT(NotFinite({{.name = "b", .shape = {8}, .value = first}}, {}), testing::IsEmpty());
}

TEST(FiniteCheck, FindsTheFirstNumberThatIsNone) {
  FindsTheFirst<float>(DType::kF32);
  FindsTheFirst<double>(DType::kF64);
}

}  // namespace
}  // namespace unipool
