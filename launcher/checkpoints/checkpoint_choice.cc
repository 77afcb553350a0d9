#include "launcher/checkpoints/checkpoint_choice.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr ExchangeLabel kLabel{.operation = "checkpoint", .step = -1, .slot = -1};

// A list that rank 0 makes, on all ranks.
std::vector<std::string> ListOfRankZero(Communicator& world,
                                        const std::function<std::vector<std::string>()>& make) {
  std::string list;
  RunTogether(world, [&] {
    if (world.rank() == 0) list = Json(make()).dump(-1, ' ', false, Json::error_handler_t::replace);
  });
  return Json::parse(world.AllGatherText(list, kLabel)[0]);
}

// The first of these checkpoints that is whole. Those before it are named on the standard error stream.
std::string FirstWhole(Communicator& world, const std::string& run_dir,
                       const std::vector<std::string>& checkpoints) {
  std::vector<std::string> problems;
  for (const std::string& dir : checkpoints) {
    const std::string why = WhyUnusable(world, dir);
    if (why.empty()) {
      if (world.rank() == 0) {
        for (const std::string& problem : problems) PrintErrorLine("warning: " + problem);
      }
      return dir;
    }
    problems.push_back(dir + ": is no complete checkpoint and is not used: " + why);
  }
  if (problems.empty()) return "";
  problems.push_back(
      run_dir +
      "/checkpoints: none of its checkpoints can be used; nothing was changed. Mend one, choose "
      "another run_dir, or train anew with `unipool train --anew`, which moves what is there aside");
  throw UserError(problems);
}

// Not known to be unsound. What is damaged or cannot be read is found by who verifies it.
bool MayBeSound(const std::string& dir) {
  try {
    return ReadSavedState(dir).is_sound;
  } catch (const std::exception&) {
    return true;
  }
}

}  // namespace

std::string WhyUnusable(Communicator& world, const std::string& dir) {
  std::string found;  // "d" and what is damaged, "u" and what cannot be read
  try {
    const FileWork work(world, "verifies the checkpoint");
    VerifyFiles(dir, world.rank(), world.size());
  } catch (const UnreadableError& error) {
    found = std::string("u") + error.what();
  } catch (const std::exception& error) {
    found = std::string("d") + error.what();
  }
  std::vector<std::string> damages, unreadable;
  for (const std::string& text : world.AllGatherText(found, kLabel)) {
    if (text.empty()) continue;
    std::vector<std::string>& list = text[0] == 'u' ? unreadable : damages;
    if (std::find(list.begin(), list.end(), text.substr(1)) == list.end()) list.push_back(text.substr(1));
  }
  if (!unreadable.empty()) {
    unreadable.push_back(dir + ": whether it is whole cannot be known; nothing was changed");
    throw UserError(unreadable);
  }
  std::string why;
  for (const std::string& damage : damages) why += (why.empty() ? "" : "; ") + damage;
  return why;
}

std::string FindNewestCheckpoint(Communicator& world, const std::string& run_dir) {
  return FirstWhole(world, run_dir, ListOfRankZero(world, [&] { return ListCheckpoints(run_dir); }));
}

std::string FindCheckpointToUse(Communicator& world, const std::string& run_dir) {
  const std::vector<std::string> list = ListOfRankZero(world, [&] {
    std::vector<std::string> checkpoints = ListCheckpoints(run_dir);
    std::stable_partition(checkpoints.begin(), checkpoints.end(), MayBeSound);
    return checkpoints;
  });
  const std::string found = FirstWhole(world, run_dir, list);
  if (world.rank() != 0) return found;
  for (const std::string& dir : list) {
    if (StepOfCheckpoint(dir) > StepOfCheckpoint(found) && !MayBeSound(dir))
      PrintErrorLine("warning: " + dir +
                     ": is newer, but its loss was not sound; --checkpoint takes it all the same");
  }
  if (!found.empty() && !MayBeSound(found))
    PrintErrorLine("warning: " + found + ": its loss was not sound, and no other checkpoint's was");
  return found;
}

}  // namespace unipool
