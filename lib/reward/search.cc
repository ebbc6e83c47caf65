#include "reward/search.h"

#include "base/clock.h"

namespace april::reward {

Deadline::Deadline(int64_t timeout_ms) : end_ns_(timeout_ms > 0 ? SystemClock().MonotonicNs() + timeout_ms * 1'000'000 : 0) {}

void Deadline::Check() const {
  if (end_ns_ != 0 && SystemClock().MonotonicNs() >= end_ns_) throw Timeout("judging took longer than --timeout-ms");
}

bool Find(const text::Regex& regex, std::string_view text, size_t from, std::vector<text::Regex::Group>* groups, const Deadline& deadline) {
  deadline.Check();
  switch (regex.Search(text, from, groups)) {
    case text::Regex::Outcome::kMatch:
      return true;
    case text::Regex::Outcome::kNoMatch:
      return false;
    case text::Regex::Outcome::kTimeout:
      throw Timeout("the pattern took longer than --timeout-ms");
    case text::Regex::Outcome::kLimit:
      break;
  }
  throw Error::Runtime("the pattern met PCRE2's limit of steps or memory");
}

}  // namespace april::reward
