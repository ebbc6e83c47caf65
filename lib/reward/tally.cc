#include "reward/tally.h"

#include <cstdio>

namespace april::reward {

void Tally::AddJudged(const record::Rollout& rollout) {
  if (!rollout.reward || rollout.reward->status != "ok") {
    ++errors_;
    return;
  }
  ++scored_;
  sum_ += rollout.reward->value;
  ++window_scored_;
  window_sum_ += rollout.reward->value;
  window_tokens_ += static_cast<int64_t>(rollout.tokens.size());
  window_truncated_ += rollout.finish == record::Finish::kLength;
}

std::string Tally::Text() const {
  char mean[64] = "";
  if (scored_ > 0) std::snprintf(mean, sizeof mean, " (mean reward %.4g)", sum_ / static_cast<double>(scored_));
  return "read " + std::to_string(num_read()) + ", scored " + std::to_string(scored_) + mean + ", passed " + std::to_string(passed_) + ", errors " +
         std::to_string(errors_);
}

Json Tally::TakeWindow() {
  const auto number = static_cast<double>(window_scored_ > 0 ? window_scored_ : 1);
  Json line = {{"scored", scored_},
               {"errors", errors_},
               {"rollouts", window_scored_},
               {"mean_reward", window_sum_ / number},
               {"mean_response_tokens", static_cast<double>(window_tokens_) / number},
               {"truncated_share", static_cast<double>(window_truncated_) / number}};
  window_scored_ = window_tokens_ = window_truncated_ = 0;
  window_sum_ = 0;
  return line;
}

}  // namespace april::reward
