// Answers to mathematical questions: found in a response, and compared.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace april::reward {

/// Content of the last "\boxed{…}", braces counted. nullopt when there is none, or it is not closed, or something else ("\boxed {5}", "\boxed5")
/// comes last.
std::optional<std::string> LastBoxed(std::string_view text);

struct AnswerPatterns;

/// Compares answers, each comparison within a time.   Thread  const, may be called from many threads.
class MathAnswers {
 public:
  explicit MathAnswers(int64_t timeout_ms);  ///< for one comparison; 0 = no limit
  ~MathAnswers();

  /// Whether two answers are the same: by the strings that NormaliseLatex gives, else by NormaliseExpression: as strings, or element by element for
  /// tuples, sets and intervals, where plain fractions must be the same strings (unreduced is wrong), a whole number equals only a whole number, and
  /// anything else is compared as an expression (expression.h). An answer of several terms over a fraction bar is put in parentheses, which the
  /// source loses.
  ///   Source  the grader of the MATH and PRM800K data sets as slime uses it (rm_hub/math_utils.py); golden vectors tests/parity/reward_vectors.json
  ///   Throws  Timeout; Runtime where a regular expression met a limit: then nobody knows whether they are the same
  bool Same(const std::string& answer, const std::string& label) const;

  /// Units, signs of currency and percent, size commands and spaces removed; \frac12 and 1/2 spelt \frac{1}{2}.
  std::string NormaliseLatex(const std::string& answer) const;
  /// LaTeX turned into plain text ("\frac{\pi}{2}" is "pi/2"), mixed numbers into sums, whole floats into integers; lower case.
  std::string NormaliseExpression(const std::string& answer) const;

 private:
  int64_t timeout_ms_;
  std::unique_ptr<const AnswerPatterns> patterns_;
};

}  // namespace april::reward
