// Takes rollout and progress records back: fenced by lease, idempotent, checked against what was journaled.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "buffer/put_counts.h"
#include "buffer/store.h"
#include "record/records.h"

namespace april::buffer {

/// Refuses a stream that belongs to another run, purpose or tokenizer. Throws Incompatible or Usage.
void CheckHeader(const RunConfig& config, const record::Header& header);

/// Puts one record's bytes (rollout, progress; a `control` of kind take only names its lease; other types are ignored).
/// A defective record is counted, not thrown. Adds the leases that the record names to `leases`.
void PutRecord(Store& store, Batch& batch, std::string_view bytes, PutCounts* counts, std::set<uint64_t>* leases);

}  // namespace april::buffer
