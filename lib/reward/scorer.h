// Scorers: from a response and its reference answer to a reward.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "record/rollout.h"
#include "text/tokenizer.h"

namespace april::reward {

/// What a scorer judges.
struct Subject {
  std::string_view response;           ///< valid UTF-8, without the final stop token
  const std::string* label = nullptr;  ///< reference answer; null when the prompt has none
};

struct ScorerOptions {
  std::string scorer = "gsm8k";
  std::string pattern;        ///< of the scorer regex
  int64_t timeout_ms = 5000;  ///< for one response
  std::string overlong;       ///< as ParseOverlong takes it; for any scorer
  void Register(OptionsVisitor& options);
};

/// Immutable.   Thread  Score may be called from many threads.
class Scorer {
 public:
  virtual ~Scorer() = default;
  /// A response that is wrong, or has no answer in it, is ok with value 0. What kept the scorer from judging (no label, a label that it cannot read,
  /// the deadline, an exception) is status error or timeout with the reason in `detail`, never a value.
  record::Reward Score(const Subject& subject) const;

  const std::string& name() const { return name_; }

 protected:
  explicit Scorer(std::string name) : name_(std::move(name)) {}
  struct Verdict {
    double value;
    std::string detail;  ///< the answer that was found
  };
  /// May throw Error: it becomes the outcome.
  virtual Verdict Judge(const Subject& subject) const = 0;
  /// The label, without white space around it. Throws Data when there is none.
  static std::string_view Label(const Subject& subject);

 private:
  std::string name_;
};

/// Scores the response's text. A token that the tokenizer does not have is an error outcome too.
record::Reward ScoreRollout(const record::Rollout& rollout, const Scorer& scorer, const text::Tokenizer& tokenizer);

/// Throws Usage on an unknown scorer, a missing or wrong pattern.
std::unique_ptr<Scorer> MakeScorer(const ScorerOptions& options);

struct ScorerInfo {
  const char* name;
  const char* help;
};
const std::vector<ScorerInfo>& ListScorers();

}  // namespace april::reward
