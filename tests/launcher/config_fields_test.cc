// No setting without an effect: every field of the schema is read by launcher or models.
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "configs/config.pb.h"
#include "launcher/config_text.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// Sources that name fields only to check, print or count them do not make a field matter.
const std::set<std::string> kOnlyLook = {"config.cc",    "config_text.cc", "validate_config.cc",
                                         "hf_config.cc", "info.cc",        "parameter_count.cc"};

std::string Sources() {
  std::ostringstream text;
  for (const char* floor : {"launcher", "models"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(UNIPOOL_SOURCE_DIR) / floor)) {
      const fs::path& path = entry.path();
      if (path.extension() != ".cc" && path.extension() != ".h") continue;
      if (kOnlyLook.count(path.filename().string()) == 0) text << std::ifstream(path).rdbuf();
    }
  }
  return text.str();
}

TEST(ConfigFields, EachIsReadBySomething) {
  const std::string sources = Sources();
  for (const std::string& path : LeafPaths(*Config::descriptor())) {
    const std::string name = path.substr(path.rfind('.') + 1);
    const std::regex accessor("(\\.|->)" + name + "(_size)?\\(");
    EXPECT_TRUE(std::regex_search(sources, accessor))
        << path << " has no effect: nothing in launcher/ or models/ reads it";
  }
}

}  // namespace
}  // namespace unipool
