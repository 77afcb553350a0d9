// Texts that go between rank 0 and the others. Their exchanges are labelled as those of traffic records.
#pragma once

#include <string>
#include <vector>

#include "runtime/communicator.h"

namespace unipool {

// What rank 0 says. Collective.
std::string FromFirst(Communicator& communicator, std::string text);

// The texts of all ranks on rank 0, in rank order, filled up with zeros; nothing on the others. Collective.
std::vector<std::string> ToFirst(Communicator& communicator, std::string text);

}  // namespace unipool
