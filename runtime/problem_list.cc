#include "runtime/problem_list.h"

#include <algorithm>
#include <new>

#include "runtime/host_memory.h"
#include "runtime/watchdog.h"

namespace unipool {

namespace {
constexpr char kEnd = '\0';  // after each problem
}

// The exit code comes first.
std::string PackProblems(const UserError& error) {
  std::string text = std::to_string(error.exit_code()) + kEnd;
  for (const std::string& problem : error.problems()) text += problem + kEnd;
  if (error.problems().empty()) text += kEnd;
  return text;
}

UserError AsUserError(const std::exception& error) {
  if (const auto* told = dynamic_cast<const UserError*>(&error)) return *told;
  if (dynamic_cast<const std::bad_alloc*>(&error)) return UserError(OutOfMemoryText());
  return UserError(error.what());  // of a library, where nobody thought of it
}

std::string ProblemsOf(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return PackProblems(AsUserError(error));
  }
  return "";
}

std::vector<std::string> UnpackProblems(const std::string& text) {
  std::vector<std::string> problems;
  for (size_t begin = text.empty() ? 0 : text.find(kEnd) + 1; begin < text.size();) {
    const size_t end = std::min(text.find(kEnd, begin), text.size());
    problems.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return problems;
}

int ExitCodeOf(const std::vector<std::string>& packed) {
  int lowest = 0;
  for (const std::string& text : packed) {
    if (text.empty()) continue;
    const int code = std::stoi(text);
    if (lowest == 0 || code < lowest) lowest = code;
  }
  return lowest;
}

std::vector<std::string> DistinctProblems(const std::vector<std::string>& packed) {
  std::vector<std::string> distinct;
  for (const std::string& text : packed) {
    for (std::string& problem : UnpackProblems(text)) {
      if (std::find(distinct.begin(), distinct.end(), problem) == distinct.end()) {
        distinct.push_back(std::move(problem));
      }
    }
  }
  return distinct;
}

std::string DescribeProblems(const std::vector<std::string>& packed) {
  std::string lines;
  for (const std::string& problem : DistinctProblems(packed)) {
    std::vector<int> ranks;
    for (size_t r = 0; r < packed.size(); ++r) {
      const std::vector<std::string> list = UnpackProblems(packed[r]);
      if (std::find(list.begin(), list.end(), problem) != list.end()) ranks.push_back(static_cast<int>(r));
    }
    if (!lines.empty()) lines += '\n';
    lines += "error: ";
    if (ranks.size() < packed.size()) lines += NameRanks(ranks) + ": ";
    lines += problem;
  }
  return lines;
}

}  // namespace unipool
