// A soft limit on the length of responses, as a part of their rewards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "record/rollout.h"

namespace april::reward {

/// Responses are punished from the last `buffer_tokens` before `max_tokens` on.
struct OverlongLimit {
  int64_t max_tokens = 0;
  int64_t buffer_tokens = 0;  ///< 1 to max_tokens
};

/// "16384:4096" is MAX:BUFFER; "" is nullopt: off. Throws Usage on anything else, and on a BUFFER outside of 1 to MAX.
std::optional<OverlongLimit> ParseOverlong(const std::string& text);

/// 0 up to max_tokens - buffer_tokens, -1 from max_tokens on, evenly falling between the two.
///   Source  DAPO's soft overlong punishment, arXiv 2503.14476, equation 13
double OverlongPunishment(int64_t num_tokens, const OverlongLimit& limit);

/// Response tokens that the policy generated, over all segments: what tools and other hands put in is not its length.
int64_t NumSampledTokens(const record::Rollout& rollout);

/// Adds the punishment to the rollout's reward, and notes both in its parts: the scorer's own value under the scorer's name, and "overlong". A reward
/// that is an error or timeout stays as it is.
void AddOverlong(const OverlongLimit& limit, record::Rollout* rollout);

}  // namespace april::reward
