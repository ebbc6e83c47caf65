// Looks for stop strings in text that arrives token by token.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace april::rollout {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings);
  /// True when some stop string ends within `bytes` (it may begin in earlier ones). Tokens are never cut: what follows it in the token stays.
  bool Feed(std::string_view bytes);
  bool empty() const { return strings_.empty(); }

 private:
  std::vector<std::string> strings_;
  size_t longest_ = 0;
  std::string tail_;  // the last longest_ - 1 bytes seen
};

}  // namespace april::rollout
