#include "rollout/stop_strings.h"

#include <algorithm>

namespace april::rollout {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  std::erase(strings_, "");  // would stop everything at once
  for (const std::string& text : strings_) longest_ = std::max(longest_, text.size());
}

bool StopStrings::Feed(std::string_view bytes) {
  if (strings_.empty()) return false;
  tail_ += bytes;
  const bool found = std::any_of(strings_.begin(), strings_.end(), [&](const std::string& text) { return tail_.find(text) != std::string::npos; });
  if (tail_.size() >= longest_) tail_.erase(0, tail_.size() - (longest_ - 1));
  return found;
}

}  // namespace april::rollout
