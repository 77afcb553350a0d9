#include "runtime/tensor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "runtime/random.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class TensorFile : public testing::Test {
 protected:
  TensorFile() {
    std::string pattern = (fs::temp_directory_path() / "tensor_file_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~TensorFile() override { fs::remove_all(directory_); }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  // A file made by hand: length (of the header unless given), header, data.
  std::string File(const std::string& header, const std::string& data, int64_t length = -1) {
    const std::string path = Path("hand-made");
    std::ofstream file(path, std::ios::binary);
    const uint64_t n = length < 0 ? header.size() : length;
    for (int i = 0; i < 8; ++i) file.put(static_cast<char>(n >> (8 * i)));
    file << header << data;
    return path;
  }
  std::string directory_;
};

std::string Problem(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}
std::string ReadProblem(const std::string& path) {
  return Problem([&] { TensorFileReader reader(path); });
}

TEST_F(TensorFile, GivesBackWhatWasWritten) {
  std::vector<float> f32(2 * 3 * 5);
  std::vector<double> f64(7);
  std::vector<int64_t> i64{-1, int64_t{1} << 60};
  std::vector<int32_t> i32{std::numeric_limits<int32_t>::min()};
  for (size_t i = 0; i < f32.size(); ++i) f32[i] = static_cast<float>(RandomNormal(1, i));
  for (size_t i = 0; i < f64.size(); ++i) f64[i] = RandomNormal(2, i);
  f32[3] = -0.0f;
  f32[4] = std::numeric_limits<float>::denorm_min();
  f32[5] = std::numeric_limits<float>::infinity();

  TensorFileWriter writer(Path("a"));
  writer.SetMetadata("format", "pt");
  writer.SetMetadata("quote \" and umlaut", "\xc3\xa4");
  writer.Declare("model.b", DType::kF32, {2, 3, 5});
  writer.Declare("empty", DType::kF32, {0, 4});
  writer.Declare("a", DType::kF64, {7});
  writer.Declare("i64", DType::kI64, {2});
  writer.Declare("scalar", DType::kI32, {});
  EXPECT_EQ(writer.declared_bytes(), 120 + 56 + 16 + 4);
  writer.Append(f32.data(), 100);  // in pieces
  writer.Append(reinterpret_cast<char*>(f32.data()) + 100, 20);
  writer.Append(f64.data(), 56);
  writer.Append(i64.data(), 16);
  writer.Append(i32.data(), 4);
  writer.Close();

  const TensorFileReader reader(Path("a"));
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  EXPECT_EQ(reader.metadata().at("quote \" and umlaut"), "\xc3\xa4");
  ASSERT_EQ(reader.entries().size(), 5u);
  const TensorFileEntry& b = reader.entries().at("model.b");
  EXPECT_EQ(b.dtype, "F32");
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3, 5}));
  EXPECT_EQ(b.bytes, 120);
  EXPECT_EQ(std::memcmp(b.data, f32.data(), 120), 0);
  EXPECT_EQ(reader.entries().at("empty").bytes, 0);
  EXPECT_TRUE(reader.entries().at("scalar").shape.empty());

  std::vector<float> part(10, NAN);
  reader.Read(b, 13, Tensor(part.data(), DType::kF32, {2, 5}));
  EXPECT_EQ(std::memcmp(part.data(), f32.data() + 13, 40), 0);
  std::vector<double> wide(30, NAN);
  reader.Read(b, 0, Tensor(wide.data(), DType::kF64, {30}));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(wide[i], static_cast<double>(f32[i]));
  std::vector<float> narrow(7, NAN);
  reader.Read(reader.entries().at("a"), 0, Tensor(narrow.data(), DType::kF32, {7}));
  for (int i = 0; i < 7; ++i) EXPECT_EQ(narrow[i], static_cast<float>(f64[i]));
  std::vector<int64_t> numbers(2);
  reader.Read(reader.entries().at("i64"), 0, Tensor(numbers.data(), DType::kI64, {2}));
  EXPECT_EQ(numbers, i64);
  EXPECT_DEATH(reader.Read(b, 21, Tensor(part.data(), DType::kF32, {10})), "21 \\+ 10");
  EXPECT_THAT(Problem([&] { reader.Read(b, 0, Tensor(numbers.data(), DType::kI64, {2})); }),
              AllOf(HasSubstr(Path("a")), HasSubstr("F32"), HasSubstr("I64")));
}

TEST_F(TensorFile, TheBytesAreThoseOfTheFormat) {
  TensorFileWriter writer(Path("a"));
  writer.Declare("x", DType::kI32, {1, 2});
  const int32_t data[2] = {0x01020304, -1};
  writer.Append(data, 8);
  writer.Close();
  std::ifstream file(Path("a"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const std::string header = R"({"x":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]}})";
  ASSERT_EQ(header.size() % 8, 0u);
  EXPECT_EQ(bytes, std::string("\x38\0\0\0\0\0\0\0", 8) + header + "\x04\x03\x02\x01\xff\xff\xff\xff");
}

// All 2^16 patterns of both 16-bit types, against their definition written with ldexp.
TEST_F(TensorFile, ConvertsSixteenBitFloats) {
  std::string data;
  for (int copy = 0; copy < 2; ++copy) {
    for (int bits = 0; bits < 65536; ++bits) data += {static_cast<char>(bits), static_cast<char>(bits >> 8)};
  }
  const std::string path =
      File(R"({"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]},)"
           R"("b":{"dtype":"BF16","shape":[65536],"data_offsets":[131072,262144]}} )",  // odd start
           data);
  const TensorFileReader reader(path);
  const auto check = [&](const char* name, int exponent_bits, int fraction_bits) {
    std::vector<float> f32(65536, 1.5f);
    std::vector<double> f64(65536, 1.5);
    reader.Read(reader.entries().at(name), 0, Tensor(f32.data(), DType::kF32, {65536}));
    reader.Read(reader.entries().at(name), 0, Tensor(f64.data(), DType::kF64, {65536}));
    const int largest = (1 << exponent_bits) - 1, bias = largest / 2;
    for (int bits = 0; bits < 65536; ++bits) {
      const int exponent = (bits >> fraction_bits) & largest, fraction = bits & ((1 << fraction_bits) - 1);
      double expected = exponent == 0
                            ? std::ldexp(fraction, 1 - bias - fraction_bits)
                            : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
      if (exponent == largest) expected = fraction ? NAN : INFINITY;
      if (bits & 0x8000) expected = -expected;
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(f32[bits]) && std::isnan(f64[bits])) << bits;
      } else {
        ASSERT_EQ(f32[bits], expected) << bits;
        ASSERT_EQ(f64[bits], expected) << bits;
        ASSERT_EQ(std::signbit(f32[bits]), std::signbit(expected)) << bits;
      }
    }
  };
  check("h", 5, 10);
  check("b", 8, 7);
}

TEST_F(TensorFile, EveryBrokenFileIsNamedWithWhatIsWrong) {
  const std::string good = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";
  const std::string data(12, 'd');
  EXPECT_EQ(ReadProblem(File(good, data)), "nothing was thrown");

  struct Case {
    const char* what;
    std::string header, data;
    int64_t length;
    const char* said;
  };
  const auto edit = [&](const char* from, const char* to) {
    std::string text = good;
    text.replace(text.find(from), std::strlen(from), to);
    return text;
  };
  const std::vector<Case> cases = {
      {"length beyond the file", good, data, 1000, "header of 1000 bytes"},
      {"huge length", good, data, std::numeric_limits<int64_t>::max(), "announce a header"},
      {"length too small", good, data, 20, "not JSON"},
      {"length 0", "", "", 0, "not JSON"},
      {"no JSON", "hello, world", data, -1, "not JSON"},
      {"a list", "[1, 2]", data, -1, "not a JSON object"},
      {"truncated data", good, data.substr(0, 11), -1,
       "'y' lies at bytes 8 to 12, and the file holds 11 bytes"},
      {"all data missing", good, "", -1, "'x' lies at bytes 0 to 8"},
      {"too much data", good, data + "more", -1, "4 bytes at its end belong to no tensor"},
      {"name twice", edit("\"y\"", "\"x\""), data, -1, "'x' twice"},
      {"overlap", edit("[8,12]", "[4,8]"), data.substr(0, 8), -1, "'y' overlaps"},
      {"hole", edit("[8,12]", "[9,13]"), data + "x", -1, "hole before tensor 'y'"},
      {"hole at the start", edit("[0,8]", "[4,12]"), data, -1, "hole before tensor 'x'"},
      {"offsets backwards", edit("[0,8]", "[8,0]"), data, -1, "'x' lies at bytes 8 to 0"},
      {"offset of 2^63", edit("[8,12]", "[8,9223372036854775808]"), data, -1, "'y' lacks a proper"},
      {"negative offset", edit("[0,8]", "[-8,0]"), data, -1, "'x' lacks a proper"},
      {"three offsets", edit("[0,8]", "[0,8,9]"), data, -1, "'x' lacks a proper"},
      {"shape too large", edit("\"shape\":[2]", "\"shape\":[3]"), data, -1,
       "'x' has 8 bytes, and [3] of F32 needs 12"},
      {"shape overflows", edit("\"shape\":[2]", "\"shape\":[4611686018427387904,4]"), data, -1,
       "impossible shape"},
      {"shape is a text", edit("\"shape\":[2]", "\"shape\":\"2\""), data, -1, "'x' lacks a proper"},
      {"negative shape", edit("\"shape\":[2]", "\"shape\":[-2]"), data, -1, "'x' lacks a proper"},
      {"dtype of another size", edit("F32", "F64"), data, -1, "'x' has 8 bytes, and [2] of F64 needs 16"},
      {"unknown dtype", edit("F32", "F23"), data, -1, "'x' has the unknown dtype F23"},
      {"no dtype", edit("\"dtype\":\"F32\",", ""), data, -1, "'x' lacks a proper"},
      {"entry is a number", R"({"x":5})", "", -1, "'x' lacks a proper"},
      {"metadata is a number", R"({"__metadata__":{"k":5}})", "", -1, "__metadata__ 'k'"},
      {"metadata is a list", R"({"__metadata__":[5]})", "", -1, "__metadata__"},
      {"bytes that are not UTF-8", "{\"\xff\xfe\":1}", "", -1, "not JSON"},
  };
  for (const Case& c : cases) {
    const std::string path = File(c.header, c.data, c.length);
    EXPECT_THAT(ReadProblem(path), AllOf(HasSubstr(path), HasSubstr(c.said))) << c.what;
  }
  for (int64_t bytes = 0; bytes < static_cast<int64_t>(8 + good.size() + data.size()); ++bytes) {
    const std::string path = File(good, data);
    fs::resize_file(path, bytes);
    EXPECT_THAT(ReadProblem(path), AllOf(HasSubstr(path), HasSubstr("not a complete safetensors file")))
        << bytes;
  }
  EXPECT_THAT(ReadProblem(Path("absent")), AllOf(HasSubstr(Path("absent")), HasSubstr("No such file")));
  EXPECT_THAT(ReadProblem(directory_), AllOf(HasSubstr(directory_), HasSubstr("not a regular file")));
}

TEST_F(TensorFile, AllProblemsOfAFileAtOnce) {
  const std::string path =
      File(R"({"x":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]},"y":7})", std::string(8, 'd'));
  EXPECT_THAT(ReadProblem(path),
              AllOf(HasSubstr("'x' has the unknown dtype Q4"), HasSubstr("'y' lacks a proper")));
}

TEST_F(TensorFile, AnUnfinishedFileIsRemoved) {
  const std::vector<char> data(1000);
  {
    TensorFileWriter writer(Path("a"));
    writer.Declare("x", DType::kF32, {1000});
    writer.Append(data.data(), 1000);
    EXPECT_TRUE(fs::exists(Path("a")));
  }
  EXPECT_FALSE(fs::exists(Path("a")));
  EXPECT_THAT(Problem([&] { TensorFileWriter writer(Path("no/such/folder")); }),
              AllOf(HasSubstr(Path("no/such/folder")), HasSubstr("No such file")));
}

TEST_F(TensorFile, WrongUseIsABug) {
  const std::vector<char> data(100);
  TensorFileWriter writer(Path("a"));
  writer.Declare("x", DType::kF32, {5});
  EXPECT_DEATH(writer.Append(data.data(), 21), "21 vs. 20");
  EXPECT_DEATH(writer.Close(), "0 vs. 20");
  writer.Append(data.data(), 20);
  EXPECT_DEATH(writer.Declare("y", DType::kF32, {5}), "after the first data");
  writer.Close();
}

// While it lives, files of this process cannot grow beyond the limit: a write fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(TensorFile, AFullDiskAsksForSpaceAndLeavesNothing) {
  const std::vector<char> data(100'000, 'x');
  const std::string problem = Problem([&] {
    const FileSizeLimit limit(50'000);
    TensorFileWriter writer(Path("a"));
    writer.Declare("x", DType::kF32, {25'000});
    writer.Append(data.data(), 100'000);
    writer.Close();
  });
  EXPECT_THAT(problem, AllOf(HasSubstr(Path("a")), HasSubstr("free some space")));
  EXPECT_FALSE(fs::exists(Path("a")));

  std::ofstream(Path("text")) << "old";
  const std::string text_problem = Problem([&] {
    const FileSizeLimit limit(50'000);
    WriteTextFile(Path("text"), std::string(100'000, 'x'));
  });
  EXPECT_THAT(text_problem, AllOf(HasSubstr(Path("text")), HasSubstr("free some space")));
  std::string old;
  std::ifstream(Path("text")) >> old;
  EXPECT_EQ(old, "old") << "the file that was there stays";
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1) << "nothing half-written";
}

// The device that is always full gives the real error.
TEST_F(TensorFile, NoSpaceLeftOnDevice) {
  struct stat status {};
  if (stat("/dev/full", &status) != 0 || !S_ISCHR(status.st_mode)) GTEST_SKIP() << "no /dev/full here";
  fs::create_symlink("/dev/full", Path("full"));
  const std::vector<char> data(1000);
  const std::string problem = Problem([&] {
    TensorFileWriter writer(Path("full"));
    writer.Declare("x", DType::kF32, {250});
    writer.Append(data.data(), 1000);
  });
  EXPECT_THAT(problem, AllOf(HasSubstr(Path("full")), HasSubstr("No space left on device"),
                             HasSubstr("free some space")));
  EXPECT_FALSE(fs::is_symlink(Path("full")));
}

TEST_F(TensorFile, TextFilesAreReplacedWhole) {
  WriteTextFile(Path("t"), "first");
  WriteTextFile(Path("t"), std::string("a\0b", 3));
  std::ifstream file(Path("t"), std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), std::string("a\0b", 3));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1);
  SyncDirectory(directory_);
  EXPECT_THAT(Problem([&] { SyncDirectory(Path("absent")); }), HasSubstr(Path("absent")));
}

}  // namespace
}  // namespace unipool
