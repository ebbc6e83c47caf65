#include "reward/response_text.h"

#include "base/utf8.h"
#include "text/stop_token.h"

namespace april::reward {

std::string ResponseText(const record::Rollout& rollout, const text::Tokenizer& tokenizer) {
  std::span<const uint32_t> tokens = rollout.tokens;
  if (rollout.finish == record::Finish::kStop) tokens = text::WithoutStopToken(tokenizer, tokens, rollout.sampling.stop_tokens);
  return ReplaceInvalidUtf8(tokenizer.Decode(tokens, false));
}

}  // namespace april::reward
