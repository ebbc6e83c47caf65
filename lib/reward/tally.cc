#include "reward/tally.h"

#include <cstdio>

namespace april::reward {

void Tally::AddJudged(const record::Rollout& rollout) {
  if (!rollout.reward || rollout.reward->status != "ok") {
    ++errors_;
    ++window_errors_;
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
  const auto mean = [this](double sum) { return window_scored_ > 0 ? Json(sum / static_cast<double>(window_scored_)) : Json(nullptr); };
  Json line = {{"scored", scored_},
               {"errors", errors_},
               {"rollouts", window_scored_},
               {"mean_reward", mean(window_sum_)},
               {"mean_response_tokens", mean(static_cast<double>(window_tokens_))},
               {"truncated_share", mean(static_cast<double>(window_truncated_))}};
  window_scored_ = window_errors_ = window_tokens_ = window_truncated_ = 0;
  window_sum_ = 0;
  return line;
}

}  // namespace april::reward
