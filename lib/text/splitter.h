// Cuts text into the pieces that BPE works on.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"
#include "text/tokenizer_spec.h"

namespace april::text {

/// The pre-tokeniser. Immutable.   Thread  Split may be called from many threads.
class Splitter {
 public:
  explicit Splitter(const std::vector<SplitStep>& steps);
  /// Appends the pieces in order. They are views into `text`, or into `storage` where a step put a space in front.
  void Split(std::string_view text, std::vector<std::string_view>* pieces, std::deque<std::string>* storage) const;

 private:
  std::vector<std::optional<Regex>> steps_;  ///< nullopt: kPrefixSpace
};

/// Finds added tokens in text: leftmost, the longest first.
class AddedTokenFinder {
 public:
  struct Found {
    size_t start, end;
    const AddedToken* token;
  };
  /// `tokens` outlive the finder.
  explicit AddedTokenFinder(std::vector<const AddedToken*> tokens);
  /// Without `special`, control tokens are not looked for.
  std::vector<Found> Find(std::string_view text, bool special) const;

 private:
  const AddedToken* LongestAt(std::string_view text, size_t offset) const;
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;
    const AddedToken* token = nullptr;
  };
  std::vector<Node> nodes_;
  bool starts_[256] = {};
};

}  // namespace april::text
