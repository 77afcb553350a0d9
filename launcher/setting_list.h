// What configs/config.proto says about each setting. Its comments are part of the program: the build embeds
// them.
#pragma once

#include <string>
#include <vector>

namespace unipool {

struct SettingValue {
  std::string name, meaning;  // of an enum
};

struct SettingInfo {
  std::string path;     // "train.steps"
  std::string preset;   // its default, "1000"; "" for empty texts and lists
  std::string meaning;  // one paragraph, without line ends
  std::vector<SettingValue> values;
};

// All settings that hold a value, in the order of the schema.
std::vector<SettingInfo> SettingList();

}  // namespace unipool
