#include "launcher/preset_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace unipool {
namespace {

namespace fs = std::filesystem;

TEST(PresetFolder, APresetIsFoundByItsName) {
  const fs::path folder = fs::path(testing::TempDir()) / "presets";
  fs::create_directories(folder / "b.txtpb");
  std::ofstream(folder / "a.txtpb") << "";
  const std::string a = (folder / "a.txtpb").string();
  for (const char* given : {"a", "a.txtpb", "configs/a.txtpb", "/nowhere/a"})
    EXPECT_EQ(FindPreset(given, folder), a) << given;
  for (const char* given : {"", "c", "a.txt", "a/", "b"}) EXPECT_EQ(FindPreset(given, folder), "") << given;
  EXPECT_EQ(FindPreset("a", ""), "");
  EXPECT_EQ(FindPreset("a", "/nowhere"), "");
  fs::remove_all(folder);
}

TEST(PresetFolder, InTheTreeItIsWrittenShort) {
  const fs::path before = fs::current_path();
  fs::current_path(UNIPOOL_SOURCE_DIR);
  EXPECT_EQ(FindPreset("demo", UNIPOOL_SOURCE_DIR "/configs"), "configs/demo.txtpb");
  fs::current_path(before);
}

}  // namespace
}  // namespace unipool
