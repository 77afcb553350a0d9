#include "launcher/home_path.h"

#include <cstdlib>

#include "runtime/errors.h"

namespace unipool {

std::string ExpandHome(const std::string& path) {
  if (path != "~" && path.rfind("~/", 0) != 0) return path;
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') throw UserError(path + ": HOME is not set, so ~ has no meaning");
  return home + path.substr(1);
}

namespace {

std::string ExpandHomeOfSource(const std::string& source) {
  const size_t begin = source.find("~/");
  const bool has_weight = begin != std::string::npos && begin > 0 &&
                          source.find_first_not_of("0123456789.eE+- ") == begin && source[begin - 1] == ' ';
  return has_weight ? source.substr(0, begin) + ExpandHome(source.substr(begin)) : ExpandHome(source);
}

}  // namespace

void ExpandHome(Config& config) {
  if (config.has_run_dir()) config.set_run_dir(ExpandHome(config.run_dir()));
  if (config.train().has_init_from())
    config.mutable_train()->set_init_from(ExpandHome(config.train().init_from()));
  if (config.parallel().has_emulate())
    config.mutable_parallel()->set_emulate(ExpandHome(config.parallel().emulate()));
  if (!config.has_data()) return;
  for (std::string& source : *config.mutable_data()->mutable_train()) source = ExpandHomeOfSource(source);
  for (std::string& source : *config.mutable_data()->mutable_valid()) source = ExpandHomeOfSource(source);
}

}  // namespace unipool
