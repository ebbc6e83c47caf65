// What a rollout's records say beyond the journal's metadata: making a new one, continuing one by a delta, comparing two.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "buffer/run_config.h"
#include "record/records.h"

namespace april::buffer {

/// The record of type T that an entry carries. Throws Data when it is of another type: the journal is damaged.
template <typename T>
T DecodePayload(std::string_view payload) {
  record::Record record = record::DecodeRecord(payload);
  if (T* found = std::get_if<T>(&record)) return std::move(*found);
  throw Error::Data("an entry of the journal carries a record of another type than its own", "partial-buffer verify tells where");
}

/// A rollout before anything was generated.
record::Rollout NewRollout(const RunConfig& config, const record::Prompt& prompt, int64_t epoch, int64_t index);

/// Appends the delta's tokens. Throws Data when it does not begin where the rollout ends.
void AppendProgress(const record::Progress& delta, record::Rollout* rollout);

/// Identifies a response so far, however it was cut: formats/buffer.md, "Entries". Extends `chain` by tokens [first, end).
uint64_t ExtendChain(uint64_t chain, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs, size_t first, size_t end);

/// Whether `whole` begins with these tokens and log-probabilities at response token `start`.
bool Contains(const record::Rollout& whole, int64_t start, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs);

}  // namespace april::buffer
