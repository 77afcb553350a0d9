#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/trainer.h"
#include "launcher/world_options.h"

namespace unipool {

int TrainCommand(const CommandLine& command_line) {
  const Config config = LoadConfig(command_line);
  const WorldOptions options = WorldOptionsOf(config);
  ValidateConfig(config, WorldSize(options));
  return RunWorld(options, [&](World& world) { Trainer(config, world).Run(); });
}

}  // namespace unipool
