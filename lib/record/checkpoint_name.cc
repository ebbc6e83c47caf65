#include "record/checkpoint_name.h"

#include <charconv>
#include <cstdio>

namespace april::record {

std::string CheckpointName(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

std::optional<int64_t> StepOfCheckpoint(std::string_view name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool good = !name.empty() && name[0] != '-' && status == std::errc() && end == name.data() + name.size();
  return good ? std::optional(step) : std::nullopt;
}

}  // namespace april::record
