// What rank 0 tells the other ranks to do, one order after the other. It alone knows streams, files and whatever is outside.
#pragma once

#include <cstdint>
#include <optional>

#include "base/json.h"
#include "grpo/claim.h"
#include "ranks/ranks.h"

namespace april::grpo {

struct Order {
  enum class Kind { kTrain, kCheckpoint, kEnd };
  Kind kind = Kind::kEnd;
  std::optional<Claim> claim = {};  ///< to train
  uint64_t weights = 0;             ///< digest of the weights before it, as they were published
  bool stopped = false;             ///< the end comes by a signal
};

/// By rank 0; the others take it, and wait for it as long as rank 0 lives.
void GiveOrder(ranks::Ranks& ranks, Order::Kind kind, const Claim* claim = nullptr, uint64_t weights = 0, bool stopped = false);
Order TakeOrder(ranks::Ranks& ranks);

/// Rank 0's value, on every rank.
Json Share(ranks::Ranks& ranks, const Json& value);

}  // namespace april::grpo
