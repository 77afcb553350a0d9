// What may be shown of a text that grows piece by piece.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace unipool {

// The text ends before the stop string that is complete first; of several that are complete at the same
// byte, the longest counts. What may still become one is held back, and so are the first bytes of a UTF-8
// character until its last one is there. Where pieces begin and end does not matter.
class ShownText {
 public:
  // `stops` may be empty. REQUIRES: none of them is "".
  explicit ShownText(std::vector<std::string> stops);

  // Takes more of the text, and returns what can be shown now. After the end it takes and returns nothing.
  std::string Add(std::string_view piece);
  // What was held back, where the text ends without a stop string.
  std::string Rest();
  bool has_stopped() const { return has_stopped_; }

 private:
  size_t HeldBack() const;

  std::vector<std::string> stops_;
  std::string held_;
  bool has_stopped_ = false;
};

}  // namespace unipool
