// Which known name a user may have meant: suggestions for unknown fields, flags, commands and files.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// The fewest insertions, deletions, replacements and swaps of neighbouring characters that turn a into b. A
// difference of case costs nothing.
int EditDistance(const std::string& a, const std::string& b);

// The candidate nearest to `name`, or "" when none is near enough to be meant: its distance is more than a
// third of the longer name.
std::string NearestName(const std::string& name, const std::vector<std::string>& candidates);

// "; did you mean X?", or "" when no candidate is near enough.
std::string DidYouMean(const std::string& name, const std::vector<std::string>& candidates);

// "a, b, c"
std::string JoinNames(const std::vector<std::string>& names);

}  // namespace unipool
