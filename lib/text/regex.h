// The home of PCRE2: regular expressions over UTF-8, with limits so that no pattern can hang.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace april::text {

struct RegexLimits {
  int64_t timeout_ms = 0;  ///< 0 = none. A deadline costs speed: leave it off for trusted patterns
  uint32_t max_steps = 0;  ///< backtracking steps; 0 = PCRE2's own limit
  uint32_t max_memory_kib = 64u << 10;
};

/// A compiled pattern: UTF-8, Unicode properties, \s is Unicode's White_Space, ^ and $ are the ends of the text.
/// Immutable.   Thread  Search may be called from many threads.
class Regex {
  struct Run;

 public:
  /// Throws Usage with the position of the fault in the pattern.
  explicit Regex(const std::string& pattern, const RegexLimits& limits = {});
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  enum class Outcome { kMatch, kNoMatch, kLimit, kTimeout };
  struct Group {
    size_t start = 0, end = 0;  ///< byte offsets
    bool matched = false;
  };
  /// The first match at or after byte `from`. `groups`: the whole match, then the captures. The text must be valid UTF-8.
  Outcome Search(std::string_view text, size_t from, std::vector<Group>* groups) const;
  /// Finds all matches of many texts, one after the other.   Thread  one object, one thread.
  class Matcher {
   public:
    explicit Matcher(const Regex& regex);
    ~Matcher();
    void Start(std::string_view text);
    /// The next match that is not empty, as byte offsets; false when there is none. Throws Runtime when a limit is met.
    bool Next(size_t* start, size_t* end);

   private:
    const Regex& regex_;
    std::string_view text_;
    size_t offset_ = 0;
    std::unique_ptr<Run> run_;
  };

  uint32_t num_captures() const;
  const std::string& pattern() const { return pattern_; }

 private:
  struct Compiled;

  std::string pattern_;
  RegexLimits limits_;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace april::text
