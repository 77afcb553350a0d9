#include "launcher/version.h"

#include "launcher/version_text.h"  // made by launcher/version.cmake at each build

namespace unipool {

std::string ProgramVersion() {
  return UNIPOOL_VERSION;
}

}  // namespace unipool
