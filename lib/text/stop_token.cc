#include "text/stop_token.h"

#include <algorithm>

namespace april::text {

std::span<const uint32_t> WithoutStopToken(const Tokenizer& tokenizer, std::span<const uint32_t> tokens, const std::vector<uint32_t>& stop_tokens) {
  const std::vector<uint32_t>& stops = stop_tokens.empty() ? tokenizer.stop_ids() : stop_tokens;
  const bool stopped = !tokens.empty() && std::find(stops.begin(), stops.end(), tokens.back()) != stops.end();
  return stopped ? tokens.first(tokens.size() - 1) : tokens;
}

}  // namespace april::text
