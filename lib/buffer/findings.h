// What is wrong with a buffer: found by verify and audit, put right by repair.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace april::buffer {

struct Finding {
  std::string where;   ///< "journal/00000003.zst, frame at offset 4096, entry at 120"
  std::string what;    ///< seen and expected
  std::string remedy;  ///< what `repair` would do about it; "" when it does nothing
};

/// Every finding is counted, the first ones are kept: a journal that is wrong once is often wrong a million times.
struct Findings {
  static constexpr size_t kKept = 1000;
  std::vector<Finding> kept;
  size_t count = 0;

  void Add(Finding finding) {
    ++count;
    if (kept.size() < kKept) kept.push_back(std::move(finding));
  }
  bool empty() const { return count == 0; }
};

/// One line each: where, what, what repair would do.
std::string FindingsText(const Findings& findings);
/// Data: how much is wrong, first with what, and what to type.
Error NotSound(const std::string& directory, const Findings& findings);

}  // namespace april::buffer
