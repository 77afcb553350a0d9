#include "launcher/data/data_split.h"

#include <cmath>
#include <sstream>
#include <vector>

#include "runtime/errors.h"

namespace unipool {
namespace {

[[noreturn]] void Fail(const std::string& split, const std::string& what) {
  throw UserError("data.split: is \"" + split + "\", " + what +
                  "; expected three shares for training, validation and test, for example \"969,30,1\"");
}

double ParseShare(const std::string& split, const std::string& part) {
  size_t used = 0;
  double share = -1;
  try {
    share = std::stod(part, &used);
  } catch (const std::exception&) {  // no number: the share stays -1
  }
  const bool whole = part.find_first_not_of(' ', used) == std::string::npos;
  if (!whole || !std::isfinite(share) || share < 0) {
    Fail(split, "which has a share that is not a number of at least 0");
  }
  return share;
}

}  // namespace

SplitBounds ParseDataSplit(const std::string& split) {
  std::vector<double> shares;
  double sum = 0;
  std::istringstream parts(split);
  for (std::string part; std::getline(parts, part, ',');) {
    shares.push_back(ParseShare(split, part));
    sum += shares.back();
  }
  if (split.ends_with(',')) Fail(split, "which ends with a comma");
  if (shares.size() != 3) Fail(split, Format("which are %d numbers", shares.size()));
  if (sum <= 0) Fail(split, "which has no positive share");
  SplitBounds bounds = {0, shares[0] / sum, shares[0] / sum + shares[1] / sum, 1};
  // Shares after the last positive one are empty, whatever the sum was rounded to.
  for (size_t i = 2; i >= 1 && shares[i] == 0; --i) bounds[i] = 1;
  return bounds;
}

}  // namespace unipool
