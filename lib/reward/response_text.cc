#include "reward/response_text.h"

#include <algorithm>

#include "base/utf8.h"

namespace april::reward {

std::string ResponseText(const record::Rollout& rollout, const text::Tokenizer& tokenizer) {
  std::span<const uint32_t> tokens = rollout.tokens;
  const std::vector<uint32_t>& stops = rollout.sampling.stop_tokens.empty() ? tokenizer.stop_ids() : rollout.sampling.stop_tokens;
  const bool stopped = rollout.finish == record::Finish::kStop && !tokens.empty();
  if (stopped && std::find(stops.begin(), stops.end(), tokens.back()) != stops.end()) tokens = tokens.first(tokens.size() - 1);
  return ReplaceInvalidUtf8(tokenizer.Decode(tokens, false));
}

}  // namespace april::reward
