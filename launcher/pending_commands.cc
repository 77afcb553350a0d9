// Commands whose own files are not part of this tree yet.
#include "launcher/commands.h"
#include "runtime/errors.h"

namespace unipool {

int TrainCommand(const CommandLine&) {
  throw UserError("train: is not built yet");
}
int EvalCommand(const CommandLine&) {
  throw UserError("eval: is not built yet");
}
int GenerateCommand(const CommandLine&) {
  throw UserError("generate: is not built yet");
}
int TokenizeCommand(const CommandLine&) {
  throw UserError("tokenize: is not built yet");
}

}  // namespace unipool
