// The JSON files of the folder traffic/ of a run.
#pragma once

#include <string>

#include "launcher/traffic_report/recorded_run.h"

namespace unipool {

// Each throws UserError that names `path`: no JSON (torn), something missing, another format.
RecordedManifest ParseRecordedManifest(const std::string& text, const std::string& path);
RecordedWindow ParseRecordedWindow(const std::string& text, const std::string& path);

}  // namespace unipool
