#include "launcher/slurm/job_options.h"

#include <gflags/gflags.h>

#include <cstdlib>
#include <filesystem>

#include "launcher/config_text.h"
#include "runtime/errors.h"

namespace unipool {

std::string SiteFile(const std::string& given) {
  std::error_code ignored;
  if (!given.empty()) {
    if (std::filesystem::is_regular_file(given, ignored)) return given;
    throw UserError("--site: there is no file " + given);
  }
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  if (!config && !home) return "";
  const std::string path =
      (config ? std::string(config) : std::string(home) + "/.config") + "/unipool/cluster.txtpb";
  return std::filesystem::is_regular_file(path, ignored) ? path : "";
}

void TakeFlags(JobConfig& job) {
  Problems problems;
  const auto* descriptor = JobConfig::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    gflags::CommandLineFlagInfo flag;
    if (!gflags::GetCommandLineFlagInfo(field->name().c_str(), &flag) || flag.is_default) continue;
    if (field->is_repeated()) {
      job.GetReflection()->AddString(&job, field, flag.current_value);  // beside those of the site
    } else if (field->type() == google::protobuf::FieldDescriptor::TYPE_STRING) {
      job.GetReflection()->SetString(&job, field, flag.current_value);
    } else {
      const std::string problem = SetFieldFromText(job, *field, flag.current_value);
      if (!problem.empty()) problems.Add("--" + field->name() + ": " + problem);
    }
  }
  problems.ThrowIfAny();
}

}  // namespace unipool
