// The numbers of `partial-buffer stat`.
#pragma once

#include "buffer/store.h"
#include "stream/value.h"

namespace april::buffer {

/// Every number, by group: run, groups, rollouts, tokens, steps, lengths, staleness, …; the keys are stable. Units are in the names.
stream::Map StatMap(const Store& store);

/// Groups that were ever dropped.
int64_t NumDropped(const Totals& totals);

}  // namespace april::buffer
