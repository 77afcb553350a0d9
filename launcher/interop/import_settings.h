// Settings of an imported model: what it computes follows from its folder, all else from the settings that an
// export left beside it and from the command line.
#pragma once

#include <string>
#include <vector>

#include "launcher/interop/hf_folder.h"
#include "launcher/interop/hf_settings.h"

namespace unipool {

// Settings of the run, as `export` writes them beside the weights for `import`.
inline constexpr char kExportedSettings[] = "unipool.txtpb";

// What of a run's settings belongs to its model, wherever it goes: no folders, no layout, no device.
Config PortableSettings(const Config& config);

// Those in the folder, or defaults, with the model of `hf`. Throws UserError where the two describe different
// models.
Config SettingsOfImport(const HfFolder& folder, const HfModel& hf);

// Applies "field.path=value". Throws UserError for one that would make another model.
Config WithOverrides(const Config& config, const std::vector<std::string>& overrides);

}  // namespace unipool
