// Rollouts as text, for the subcommands that look.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "buffer/store.h"
#include "record/records.h"
#include "text/tokenizer.h"

namespace april::buffer {

/// The run's, from `path` or, when that is empty, from where init found it. Throws as Tokenizer::Load, with the hint that --model names another
/// place; Incompatible when it is another tokenizer than the run's.
std::shared_ptr<const text::Tokenizer> LoadTokenizer(const std::string& path, const Store& store);

/// The response's tokens without the stop token that ended it: what graders see.
std::span<const uint32_t> ShownTokens(const text::Tokenizer& tokenizer, const record::Rollout& rollout);

/// As valid UTF-8.
std::string PromptText(const text::Tokenizer& tokenizer, const record::Rollout& rollout);
std::string ResponseText(const text::Tokenizer& tokenizer, const record::Rollout& rollout);

}  // namespace april::buffer
