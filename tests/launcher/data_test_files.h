// Folders that vanish, files with given bytes, and the corpora of ../shared/data for the tests of text and
// tokens.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace unipool {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "unipool-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A file of the test data, or "" if it is not on this machine.
inline std::string TestData(const std::string& name) {
  const char* folder = std::getenv("UNIPOOL_TEST_DATA");
  const std::string path =
      (folder != nullptr ? std::string(folder) : UNIPOOL_SOURCE_DIR "/../shared/data") + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace unipool

// Skips the test, by name, where a file of the test data is absent.
#define SKIP_WITHOUT_TEST_DATA(name) \
  if (unipool::TestData(name).empty()) GTEST_SKIP() << "test data " << (name) << " is not on this machine"
