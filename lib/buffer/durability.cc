#include "buffer/durability.h"

#include <charconv>

#include "base/error.h"

namespace april::buffer {

Durability Durability::Parse(const std::string& text) {
  constexpr std::string_view kBatch = "batch:";
  constexpr int64_t kLongestMs = 60'000;
  if (text == "sync") return {};
  if (text == "os") return {Mode::kOs, 0};
  Durability durability = {Mode::kBatch, 0};
  const char* end = text.data() + text.size();
  const bool is_number = text.starts_with(kBatch) && std::from_chars(text.data() + kBatch.size(), end, durability.batch_ms).ptr == end;
  if (!is_number || durability.batch_ms < 1 || durability.batch_ms > kLongestMs) {
    throw Error::Usage("--durability " + text + " is none of sync, batch:MS, os",
                       "for example batch:10: synced within 10 ms; MS is from 1 to " + std::to_string(kLongestMs));
  }
  return durability;
}

}  // namespace april::buffer
