// The text that graders see.
#pragma once

#include <string>

#include "record/rollout.h"
#include "text/tokenizer.h"

namespace april::reward {

/// The response without the token that ended it, as valid UTF-8 (bytes that are none, and ids that have no token, become U+FFFD). Special tokens
/// within it stay visible.
std::string ResponseText(const record::Rollout& rollout, const text::Tokenizer& tokenizer);

}  // namespace april::reward
