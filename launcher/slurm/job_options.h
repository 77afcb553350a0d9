// The options of `unipool submit`: configs/job.proto's fields from the site's file, overridden by flags of
// their names.
#pragma once

#include <string>

#include "configs/job.pb.h"

namespace unipool {

// The site's file: `given`, or ~/.config/unipool/cluster.txtpb ($XDG_CONFIG_HOME in place of ~/.config); ""
// where there is none. Throws UserError when `given` names no file.
std::string SiteFile(const std::string& given);

// Sets those fields of which a flag of the name was set. Throws UserError.
void TakeFlags(JobConfig& job);

}  // namespace unipool
