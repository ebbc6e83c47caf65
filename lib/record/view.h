// Records as people and comparisons see them: JSON, one line of text, the canonical form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "record/records.h"

namespace april::record {

/// The JSON twin of any record or header: ids and digests as 16 hexadecimal digits, known arrays of numbers as lists, other bins as {"hex": …}.
Json ToJson(std::string_view record_bytes);

/// One line for a terminal: what the record is, and the few numbers that one looks for first.
std::string OneLine(const Record& record);

/// Two streams are equal when their canonical records are equal as a list sorted by (uid, bytes): keys sorted, numbers in one form, no timings
/// (keys ending in _s, _ms, _ns or _seconds, outside of `meta`), and of a header no provenance.
struct CanonicalRecord {
  uint64_t uid = 0;  ///< 0 for records without one
  std::string bytes;
  auto operator<=>(const CanonicalRecord&) const = default;
};
CanonicalRecord Canonical(std::string_view record_bytes);

/// "queued", "partial", …
const char* StatusText(Status status);
const char* FinishText(Finish finish);
/// Throws Data naming the ones that are known.
Finish ParseFinish(const std::string& text);

}  // namespace april::record
