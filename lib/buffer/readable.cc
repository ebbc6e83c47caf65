#include "buffer/readable.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/stop_token.h"

namespace april::buffer {

std::shared_ptr<const text::Tokenizer> LoadTokenizer(const std::string& path, const Store& store) {
  const RunConfig& config = store.state().config();
  const std::string& from = path.empty() ? config.model : path;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  try {
    tokenizer = text::Tokenizer::Load(from);
  } catch (const Error& error) {
    if (!path.empty()) throw;
    throw error.Within("the model that init was given").WithHint("if it is elsewhere now: --model PATH");
  }
  if (config.tokenizer && tokenizer->digest() != *config.tokenizer) {
    throw Error::Incompatible(from + " has the tokenizer " + HexU64(tokenizer->digest()) + ", the run was made with " + HexU64(*config.tokenizer),
                              "--model names the model that init was given: " + config.model);
  }
  return tokenizer;
}

std::span<const uint32_t> ShownTokens(const text::Tokenizer& tokenizer, const record::Rollout& rollout) {
  const std::span<const uint32_t> tokens = rollout.tokens;
  return rollout.finish == record::Finish::kStop ? text::WithoutStopToken(tokenizer, tokens, rollout.sampling.stop_tokens) : tokens;
}

std::string PromptText(const text::Tokenizer& tokenizer, const record::Rollout& rollout) {
  return ReplaceInvalidUtf8(tokenizer.Decode(rollout.prompt_tokens, false));
}

std::string ResponseText(const text::Tokenizer& tokenizer, const record::Rollout& rollout) {
  return ReplaceInvalidUtf8(tokenizer.Decode(ShownTokens(tokenizer, rollout), false));
}

}  // namespace april::buffer
