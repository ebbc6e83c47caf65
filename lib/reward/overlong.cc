#include "reward/overlong.h"

#include <charconv>
#include <string_view>

#include "base/error.h"

namespace april::reward {
namespace {

std::optional<int64_t> WholeNumber(std::string_view text) {
  int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  return status == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

}  // namespace

std::optional<OverlongLimit> ParseOverlong(const std::string& text) {
  if (text.empty()) return std::nullopt;
  constexpr const char* kHint = "for example --overlong 16384:4096: punished above 12288 tokens, fully from 16384 on";
  const std::string_view view = text;
  const size_t colon = view.find(':');
  const auto max = WholeNumber(view.substr(0, colon));
  const auto buffer = colon == std::string_view::npos ? std::nullopt : WholeNumber(view.substr(colon + 1));
  if (!max || !buffer) throw Error::Usage("--overlong " + text + ": MAX:BUFFER is needed, two whole numbers of tokens", kHint);
  if (*buffer < 1 || *buffer > *max) throw Error::Usage("--overlong " + text + ": BUFFER is out of range, expected from 1 to MAX", kHint);
  return OverlongLimit{*max, *buffer};
}

double OverlongPunishment(int64_t num_tokens, const OverlongLimit& limit) {
  const int64_t free_tokens = limit.max_tokens - limit.buffer_tokens;
  if (num_tokens <= free_tokens) return 0;
  if (num_tokens > limit.max_tokens) return -1;
  return static_cast<double>(free_tokens - num_tokens) / static_cast<double>(limit.buffer_tokens);
}

int64_t NumSampledTokens(const record::Rollout& rollout) {
  int64_t num_tokens = 0;
  for (const record::Segment& segment : rollout.segments) {
    if (segment.kind == "generated") num_tokens += segment.len;
  }
  return num_tokens;
}

void AddOverlong(const OverlongLimit& limit, record::Rollout* rollout) {
  if (!rollout->reward || rollout->reward->status != "ok") return;
  record::Reward& reward = *rollout->reward;
  const double punishment = OverlongPunishment(NumSampledTokens(*rollout), limit);
  reward.parts.emplace_back(reward.scorer, reward.value);
  reward.parts.emplace_back("overlong", punishment);
  reward.value += punishment;
}

}  // namespace april::reward
