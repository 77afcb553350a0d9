// Problems (texts of UserErrors) of several ranks as one list for the user.
#pragma once

#include <string>
#include <vector>

#include "runtime/errors.h"

namespace unipool {

// The problems of one rank as one text without loss, and back. A rank without a problem is the empty text.
std::string PackProblems(const UserError& error);
std::vector<std::string> UnpackProblems(const std::string& text);

// Distinct problems in the order of ranks; packed[r] is rank r's text.
std::vector<std::string> DistinctProblems(const std::vector<std::string>& packed);
// What is printed for the user: each distinct problem on its own line, after the ranks that have it unless
// all do.
std::string DescribeProblems(const std::vector<std::string>& packed);

}  // namespace unipool
