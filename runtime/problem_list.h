// The problems of several ranks (texts of UserErrors, errors.h) as one list for the user.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "runtime/errors.h"

namespace unipool {

// The problems of one rank with their exit code as one text, and back, without loss. The empty text stands
// for a rank without a problem.
std::string PackProblems(const UserError& error);
// What is told of any exception: a UserError as it is; of a failed allocation, what this process has.
UserError AsUserError(const std::exception& error);
// The packed problems of `work`: what it throws, whatever exception that is; empty if nothing.
std::string ProblemsOf(const std::function<void()>& work);
std::vector<std::string> UnpackProblems(const std::string& text);
// The exit code of a job whose ranks have these problems: the lowest of the ranks' codes, since wrong input
// stays wrong whatever else went wrong. 0 when no rank has a problem.
int ExitCodeOf(const std::vector<std::string>& packed);

// Each different problem once, in the order of ranks. packed[r] is rank r's text.
std::vector<std::string> DistinctProblems(const std::vector<std::string>& packed);
// What the user reads: each different problem on a line of its own. A problem that some ranks do not have
// names the ranks that have it. Example: "error: rank 2: no such file".
std::string DescribeProblems(const std::vector<std::string>& packed);

}  // namespace unipool
