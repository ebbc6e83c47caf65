// Where a response's text ends: before the token that ended it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace april::text {

/// The tokens of a response that a stop token ended, without it: one of `stop_tokens`, or of the tokenizer's own when these are empty.
std::span<const uint32_t> WithoutStopToken(const Tokenizer& tokenizer, std::span<const uint32_t> tokens, const std::vector<uint32_t>& stop_tokens);

}  // namespace april::text
