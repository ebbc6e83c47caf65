// Regular expressions for graders: what a search cannot decide is an error, never "no match".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/regex.h"

namespace april::reward {

/// An error that the deadline made: its outcome is called timeout.
class Timeout : public Error {
 public:
  explicit Timeout(std::string message) : Error(ErrorKind::kRuntime, std::move(message)) {}
};

/// The end of the time that one response has.
class Deadline {
 public:
  explicit Deadline(int64_t timeout_ms);  ///< from now; 0 = never
  void Check() const;                     ///< throws Timeout

 private:
  int64_t end_ns_;
};

/// Regex::Search, whether it matched. Throws Timeout (the expression's own limit of time, or the deadline), Runtime (PCRE2's limits).
bool Find(const text::Regex& regex, std::string_view text, size_t from, std::vector<text::Regex::Group>* groups, const Deadline& deadline);

}  // namespace april::reward
