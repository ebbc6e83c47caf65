#include "base/invocation.h"

#include <utility>

namespace april {

void Invocation::Report(std::string line, Json numbers, int64_t done, int64_t total) {
  summary = std::move(line);
  counts = std::move(numbers);
  if (progress_due()) progress(static_cast<double>(done), static_cast<double>(total), summary);
}

}  // namespace april
