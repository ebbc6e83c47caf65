#include <algorithm>
#include <exception>

#include "base/error.h"
#include "base/utf8.h"
#include "reward/characters.h"
#include "reward/math_answer.h"
#include "reward/response_text.h"
#include "reward/scorer.h"
#include "reward/search.h"
#include "text/regex.h"

namespace april::reward {
namespace {

using text::Regex;

constexpr size_t kDetailBytes = 200;

/// Long answers are cut where a character ends.
std::string Shorten(std::string_view text) {
  if (text.size() <= kDetailBytes) return std::string(text);
  const std::string_view head = text.substr(0, kDetailBytes);
  return std::string(head.substr(0, head.size() - UnfinishedUtf8(head))) + "…";
}

/// The last match of `regex`: its first capture, or the whole match where it has none.
std::optional<std::string_view> LastMatch(const Regex& regex, std::string_view text, const Deadline& deadline) {
  std::optional<std::string_view> last;
  std::vector<Regex::Group> groups;
  for (size_t from = 0; from <= text.size();) {
    if (!Find(regex, text, from, &groups, deadline)) break;
    const Regex::Group& group = groups.size() > 1 && groups[1].matched ? groups[1] : groups[0];
    last = text.substr(group.start, group.end - group.start);
    from = groups[0].end;
    if (groups[0].end > groups[0].start || from >= text.size()) {
      if (from >= text.size()) break;
      continue;
    }
    NextChar(text, &from);  // behind an empty match
  }
  return last;
}

class Exact final : public Scorer {
 public:
  Exact() : Scorer("exact") {}

 protected:
  Verdict Judge(const Subject& subject) const override {
    const std::string_view response = Trim(subject.response);
    return {response == Label(subject) ? 1.0 : 0.0, Shorten(response)};
  }
};

class ByPattern final : public Scorer {
 public:
  explicit ByPattern(const ScorerOptions& options)
      : Scorer("regex"), regex_(options.pattern, {.timeout_ms = options.timeout_ms}), timeout_ms_(options.timeout_ms) {}

 protected:
  Verdict Judge(const Subject& subject) const override {
    const bool compares = regex_.num_captures() > 0;
    const std::string_view label = compares ? Label(subject) : std::string_view();
    const auto found = LastMatch(regex_, subject.response, Deadline(timeout_ms_));
    if (!found) return {0, ""};
    return {!compares || Trim(*found) == label ? 1.0 : 0.0, Shorten(*found)};
  }

 private:
  Regex regex_;
  int64_t timeout_ms_;
};

class LastNumber final : public Scorer {
 public:
  explicit LastNumber(const ScorerOptions& options)
      : Scorer("gsm8k"), number_(R"(-?(?:\d[\d,]*(?:\.\d+)?|\.\d+))", {.timeout_ms = options.timeout_ms}), timeout_ms_(options.timeout_ms) {}

 protected:
  Verdict Judge(const Subject& subject) const override {
    std::string_view label = Label(subject);
    if (const size_t mark = label.rfind("####"); mark != std::string_view::npos) label.remove_prefix(mark + 4);
    const Deadline deadline(timeout_ms_);
    const auto expected = LastMatch(number_, label, deadline);
    if (!expected) throw Error::Data("the label '" + Shorten(label) + "' has no number in it");
    const auto found = LastMatch(number_, subject.response, deadline);
    if (!found) return {0, ""};
    const std::string answer = ShortestForm(*found);
    return {answer == ShortestForm(*expected) ? 1.0 : 0.0, Shorten(answer)};
  }

 private:
  /// The same text for equal numbers, however long they are: no commas, no zeros that say nothing, no minus before zero.
  static std::string ShortestForm(std::string_view number) {
    const bool is_negative = number.starts_with('-');
    std::string digits(number.substr(is_negative ? 1 : 0));
    std::erase(digits, ',');
    if (digits.find('.') != std::string::npos) {
      digits.erase(digits.find_last_not_of('0') + 1);
      if (digits.ends_with('.')) digits.pop_back();
    }
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
    if (digits.empty() || digits[0] == '.') digits.insert(0, "0");
    return is_negative && digits != "0" ? "-" + digits : digits;
  }
  Regex number_;
  int64_t timeout_ms_;
};

class BoxedMath final : public Scorer {
 public:
  explicit BoxedMath(const ScorerOptions& options) : Scorer("math"), answers_(options.timeout_ms) {}

 protected:
  Verdict Judge(const Subject& subject) const override {
    std::string label(Label(subject));
    if (label.find("\\boxed") != std::string::npos) {
      const auto boxed = LastBoxed(label);
      if (!boxed) throw Error::Data("the label '" + Shorten(label) + "' has a \\boxed without its content");
      label = *boxed;
    }
    const auto answer = LastBoxed(subject.response);
    if (!answer) return {0, ""};
    return {answers_.Same(*answer, label) ? 1.0 : 0.0, Shorten(*answer)};
  }

 private:
  MathAnswers answers_;
};

}  // namespace

record::Reward Scorer::Score(const Subject& subject) const {
  record::Reward reward;
  reward.scorer = name_;
  try {
    // What the scorers' expressions rely on.
    if (FindInvalidUtf8(subject.response)) throw Error::Data("the response is not valid UTF-8");
    if (subject.label != nullptr && FindInvalidUtf8(*subject.label)) throw Error::Data("the label is not valid UTF-8");
    const Verdict verdict = Judge(subject);
    reward.value = verdict.value;
    reward.detail = verdict.detail;
  } catch (const Timeout& timeout) {
    reward.status = "timeout";
    reward.detail = timeout.message();
  } catch (const Error& error) {
    reward.status = "error";
    reward.detail = error.message();
  } catch (const std::exception& error) {
    reward.status = "error";
    reward.detail = error.what();
  }
  return reward;
}

record::Reward ScoreRollout(const record::Rollout& rollout, const Scorer& scorer, const text::Tokenizer& tokenizer) {
  std::string response;
  try {
    response = ResponseText(rollout, tokenizer);
  } catch (const Error& error) {
    record::Reward reward;
    reward.scorer = scorer.name();
    reward.status = "error";
    reward.detail = error.message();
    return reward;
  }
  return scorer.Score({response, rollout.label ? &*rollout.label : nullptr});
}

std::string_view Scorer::Label(const Subject& subject) {
  if (subject.label == nullptr) throw Error::Data("the prompt has no label, which this scorer needs");
  const std::string_view label = Trim(*subject.label);
  if (label.empty()) throw Error::Data("the prompt's label is empty");
  return label;
}

void ScorerOptions::Register(OptionsVisitor& options) {
  options.Text("scorer", &scorer, "NAME", "how responses are judged; --list shows the names");
  options.Text("pattern", &pattern, "REGEX",
               "for --scorer regex: the last match counts; a capture is compared with the label, without one it is enough that the pattern matches");
  options.Integer("timeout-ms", &timeout_ms, 1, 3'600'000,
                  "for one response: searching it, and comparing its answer; one that takes longer has the outcome timeout (exact needs no limit)");
  options.Text(
      "overlong", &overlong, "MAX:BUFFER",
      "DAPO's soft punishment of long responses, added to any scorer's reward: 0 up to MAX - BUFFER sampled tokens, from there evenly down to -1 "
      "at MAX, and -1 above; for example 16384:4096. The reward's parts show both, and filters see their sum");
}

const std::vector<ScorerInfo>& ListScorers() {
  static const std::vector<ScorerInfo> scorers = {
      {"exact", "the response is the label, white space around both aside"},
      {"gsm8k", "the last number of the response is the label's last number (after #### if it has that); 1,080.50 is 1080.5"},
      {"math", "the last \\boxed answer equals the label after normalisation, as a number, or as an expression"},
      {"regex", "--pattern's last match: its first capture equals the label; without a capture, it matches at all"},
  };
  return scorers;
}

std::unique_ptr<Scorer> MakeScorer(const ScorerOptions& options) {
  if (options.scorer != "regex" && !options.pattern.empty()) throw Error::Usage("--pattern is for --scorer regex, not for " + options.scorer);
  if (options.scorer == "exact") return std::make_unique<Exact>();
  if (options.scorer == "gsm8k") return std::make_unique<LastNumber>(options);
  if (options.scorer == "math") return std::make_unique<BoxedMath>(options);
  if (options.scorer == "regex") {
    if (options.pattern.empty()) throw Error::Usage("--scorer regex needs --pattern", "for example --pattern 'answer is (\\S+)'");
    return std::make_unique<ByPattern>(options);
  }
  std::string known;
  for (const ScorerInfo& info : ListScorers()) known += (known.empty() ? "" : ", ") + std::string(info.name);
  throw Error::Usage("unknown scorer '" + options.scorer + "'", "known are " + known);
}

}  // namespace april::reward
