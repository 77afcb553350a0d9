#include "launcher/help.h"

#include "launcher/flag_list.h"
#include "launcher/nearest_name.h"
#include "launcher/preset_folder.h"
#include "launcher/setting_list.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using ConfigUse = CommandInfo::ConfigUse;

constexpr size_t kColumns = 80;

// "  name     what it means,", filled to kColumns; the following lines begin under the meaning.
std::string Row(const std::string& name, const std::string& meaning, size_t indent = 2, size_t column = 32) {
  std::string text, line = std::string(indent, ' ') + name;
  if (meaning.empty()) return line + "\n";
  if (line.size() + 2 > column) {
    text = line + "\n";
    line.clear();
  }
  line.resize(column, ' ');
  size_t at = 0;
  while (at < meaning.size()) {
    const size_t end = std::min(meaning.find(' ', at), meaning.size());
    if (line.size() > column && line.size() + 1 + end - at > kColumns) {
      text += line + "\n";
      line.assign(column, ' ');
    }
    if (line.size() > column) line += ' ';
    line += meaning.substr(at, end - at);
    at = end + 1;
  }
  return text + line + "\n";
}

const CommandInfo* FindCommand(const std::string& name) {
  for (const CommandInfo& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

bool TakesSettings(const CommandInfo& command) {
  return command.config == ConfigUse::kRequired || command.config == ConfigUse::kOptional ||
         command.config == ConfigUse::kModel;
}

std::string UsageOf(const CommandInfo& command) {
  std::string text = std::string("unipool ") + command.name;
  if (command.config == ConfigUse::kFolder) text += " DIR";
  if (command.config == ConfigUse::kInputs) text += " [FILE|DIR|GLOB|- ...]";
  if (command.config == ConfigUse::kRequired) text += " CONFIG.txtpb [field.path=value ...]";
  if (command.config == ConfigUse::kModel) text += " RUN_DIR|STEP_DIR|CONFIG.txtpb [field.path=value ...]";
  if (command.config == ConfigUse::kOptional) text += " [CONFIG.txtpb] [field.path=value ...]";
  return text + (FlagsOf(command).empty() ? "" : " [--flags]") + "\n";
}

// As people write it: 0.8, which gflags gives with 17 digits.
std::string DefaultOf(const FlagInfo& flag) {
  return flag.type == "double" ? Format("%g", std::stod(flag.default_value)) : flag.default_value;
}

std::string FlagRow(const FlagInfo& flag, const CommandInfo& command) {
  const std::string kind = flag.type == "bool" ? "" : flag.type == "string" ? "=TEXT" : "=N";
  std::string meaning = flag.description;
  const std::string own = std::string(command.name) + ": ";
  if (meaning.rfind(own, 0) == 0) meaning.erase(0, own.size());
  const bool has_default = flag.type != "bool" && !flag.default_value.empty();
  if (flag.type == "bool" && flag.default_value == "true") meaning += "; --no" + flag.name + " turns it off";
  return Row("--" + flag.name + kind, meaning + (has_default ? " [" + DefaultOf(flag) + "]" : ""));
}

std::string SettingRows(const SettingInfo& setting) {
  std::string text = Row(setting.path + "=" + setting.preset, setting.meaning);
  for (const SettingValue& value : setting.values) text += Row(value.name, value.meaning, 6);
  return text;
}

bool IsIn(const SettingInfo& setting, const std::string& topic) {
  return topic.empty() || setting.path == topic || setting.path.rfind(topic + ".", 0) == 0;
}

// Those below the block `topic`, all for "".
std::string SettingsText(const std::string& topic) {
  std::string text;
  for (const SettingInfo& setting : SettingList()) {
    if (IsIn(setting, topic)) text += SettingRows(setting);
  }
  return text;
}

std::string CommandText(const CommandInfo& command) {
  std::string text = UsageOf(command) + "\n" + Row(command.name, command.summary, 0, 10);
  const std::vector<FlagInfo> flags = FlagsOf(command);
  if (!flags.empty()) text += "\nFlags [default]\n";
  for (const FlagInfo& flag : flags) text += FlagRow(flag, command);
  if (command.name == std::string("train")) {
    text += "\nSettings, in the file or on the command line, with their defaults\n" + SettingsText("");
  } else if (TakesSettings(command)) {
    text += "\nSettings are those of the run: unipool help train\n";
  }
  return text;
}

std::string Overview() {
  std::string text = "unipool COMMAND [CONFIG.txtpb] [field.path=value ...] [--flags]\n\nCommands\n";
  for (const CommandInfo& command : Commands()) text += Row(command.name, command.summary, 2, 12);
  text +=
      "  help      unipool help COMMAND: its flags, for train all settings;\n"
      "            unipool help moe.router: one setting, or a block of them\n"
      "\nLists are separated by commas. A path with a comma:\n"
      "data.train='\"my, book.txt\"' or my\\, book.txt\n"
      "\nPresets (CONFIG.txtpb): " +
      (PresetFolder().empty() ? "configs/ of the source tree" : PresetFolder()) +
      "\n"
      "\nSeveral ranks: parallel.ranks=4 in one process, or mpirun -np 4 unipool ...\n"
      "unipool --version says which program this is.\n"
      "\nExit codes\n"
      "  0    all steps are done, or the answer was given\n"
      "  2    wrong input: mend it first\n"
      "  3    stuck: a rank gave no sign of life\n"
      "  75   stopped early on request (a signal, RUN_DIR/stop, train.stop_at), a\n"
      "       checkpoint is saved: repeat the command\n"
      "  76   a checkpoint or metrics could not be written: make room first\n"
      "\nExamples\n"
      "  unipool train configs/demo.txtpb data.train=book.txt train.steps=200\n"
      "  unipool generate runs/demo --prompt \"It was\"\n"
      "  unipool info configs/unipool_182m.txtpb parallel.ranks=8\n";
  return text;
}

[[noreturn]] void Refuse(const std::string& topic) {
  std::vector<std::string> names;
  for (const CommandInfo& command : Commands()) names.emplace_back(command.name);
  for (const SettingInfo& setting : SettingList()) names.push_back(setting.path);
  std::string nearest = DidYouMean(topic, names);
  for (const SettingInfo& setting : SettingList()) {
    if (setting.path.ends_with("." + topic)) nearest = "; did you mean " + setting.path + "?";
  }
  throw UserError(
      "help " + topic + ": is no command and no setting" +
      (nearest.empty() ? "; unipool help lists the commands, unipool help train the settings" : nearest));
}

}  // namespace

std::string HelpText(const std::string& topic) {
  if (topic.empty() || topic == "help") return Overview();
  if (const CommandInfo* command = FindCommand(topic)) return CommandText(*command);
  const std::string settings = SettingsText(topic);
  if (settings.empty()) Refuse(topic);
  return settings;
}

std::vector<std::string> CompletionWords(const std::string& name) {
  std::vector<std::string> words;
  const CommandInfo* command = FindCommand(name);
  if (!command) {
    for (const CommandInfo& each : Commands()) words.emplace_back(each.name);
    for (const char* other : {"help", "--help", "--version"}) words.emplace_back(other);
    return words;
  }
  for (const FlagInfo& flag : FlagsOf(*command)) {
    words.push_back("--" + flag.name + (flag.type == "bool" ? "" : "="));
    for (const std::string& value : ValuesOf(flag)) words.push_back("--" + flag.name + "=" + value);
  }
  if (!TakesSettings(*command)) return words;
  for (const SettingInfo& setting : SettingList()) {
    words.push_back(setting.path + "=");
    for (const SettingValue& value : setting.values) words.push_back(setting.path + "=" + value.name);
  }
  return words;
}

}  // namespace unipool
