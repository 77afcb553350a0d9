#include <gflags/gflags.h>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/start_check.h"
#include "launcher/trainer.h"
#include "launcher/world_options.h"

DEFINE_bool(
    anew, false,
    "train: begin with step 0; checkpoints and metrics of earlier starts are moved aside, not deleted");

namespace unipool {

int TrainCommand(const CommandLine& command_line) {
  const Config config = LoadConfig(command_line);
  const WorldOptions options = WorldOptionsOf(config);
  ValidateConfig(config, WorldSize(options));
  return RunWorld(options, [&](World& world) {
    CheckStart(config, world);
    Trainer(config, world, FLAGS_anew).Run();
  });
}

}  // namespace unipool
