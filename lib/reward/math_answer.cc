#include "reward/math_answer.h"

#include <cmath>
#include <cstdlib>

#include "base/utf8.h"
#include "reward/characters.h"
#include "reward/expression.h"
#include "reward/latex_text.h"
#include "reward/search.h"
#include "text/regex.h"

namespace april::reward {

struct AnswerPatterns {
  explicit AnswerPatterns(const text::RegexLimits& limits)
      : whole_text(R"(^\\text\{(.+?)\}$)", limits),
        number(R"(^\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*$)", limits),
        thousands(R"((?<=\d),(?=\d\d\d(?!\d)))", limits),
        digits(R"(^-?[0-9]+$)", limits),
        fraction(R"(^-?[0-9]+.?/0*[1-9][0-9]*.?$)", limits),
        quotient(R"(^(-?[1-9][0-9]*|0)/(-?[1-9][0-9]*|0)$)", limits),
        units(R"((?:degree|cm|centimeter|meter|mile|second|minute|hour|day|week|month|year|foot|feet|inch|yard)(?:es)?s? *(?:\^[0-9]+)?)", limits),
        degrees(R"(\^ *\\circ)", limits),
        small_space(R"(,\\! *)", limits),
        minus(R"((-) +)", limits),
        mixed(R"(([0-9]) +([0-9]))", limits) {}
  text::Regex whole_text, number, thousands, digits, fraction, quotient, units, degrees, small_space, minus, mixed;
};

namespace {

using text::Regex;

constexpr std::string_view kBrackets = "()[]";
constexpr double kWholeTolerance = 1e-7;
constexpr size_t kLongestAnswer = 4000;  // bytes

/// The character at `start`, whole.
std::string CharacterAt(const std::string& text, size_t start) {
  size_t end = start;
  NextChar(text, &end);
  return text.substr(start, end - start);
}

void ReplaceAll(std::string* text, std::string_view what, std::string_view with) {
  std::string out;
  size_t start = 0;
  for (size_t found; (found = text->find(what, start)) != std::string::npos; start = found + what.size()) {
    out.append(*text, start, found - start);
    out += with;
  }
  if (start > 0) *text = out.append(*text, start);
}

/// Puts the first character behind each \sqrt into braces. nullopt when nothing is behind it.
std::optional<std::string> BraceRoots(const std::string& text) {
  std::string out;
  size_t start = 0;
  for (size_t found; (found = text.find("\\sqrt", start)) != std::string::npos;) {
    out.append(text, start, found + 5 - start);
    start = found + 5;
    if (start >= text.size() || text.compare(start, 5, "\\sqrt") == 0) return std::nullopt;
    if (text[start] == '{') continue;
    const std::string radicand = CharacterAt(text, start);
    out += "{" + radicand + "}";
    start += radicand.size();
  }
  return out.append(text, start);
}

/// \frac12 and \frac1{2} become \frac{1}{2}. nullopt when nothing is behind a \frac.
std::optional<std::string> BraceFractions(const std::string& text) {
  std::string out;
  size_t start = 0;
  for (size_t found; (found = text.find("\\frac", start)) != std::string::npos;) {
    out.append(text, start, found + 5 - start);
    start = found + 5;
    const size_t end = std::min(text.find("\\frac", start), text.size());
    if (start >= end) return std::nullopt;
    if (text[start] == '{') continue;
    const std::string over = CharacterAt(text, start);
    start += over.size();
    if (start >= end) return text;
    out += "{" + over + "}";
    if (text[start] == '{') continue;
    const std::string under = CharacterAt(text, start);
    out += "{" + under + "}";
    start += under.size();
  }
  return out.append(text, start);
}

bool IsWhole(double value) { return std::abs(value - std::round(value)) <= kWholeTolerance; }

std::string WholeText(double value) {
  char text[400];
  std::snprintf(text, sizeof text, "%.0f", std::round(value) + 0.0);
  return text;
}

/// One comparison, with what is left of its time.
class Comparison {
 public:
  Comparison(const AnswerPatterns& patterns, int64_t timeout_ms) : patterns_(patterns), deadline_(timeout_ms) {}

  std::string Latex(const std::string& answer) const;
  std::string Expression(const std::string& answer) const;
  bool Same(const std::string& answer, const std::string& label) const;

 private:
  bool Matches(const Regex& regex, std::string_view text) const {
    std::vector<Regex::Group> groups;
    return Find(regex, text, 0, &groups, deadline_);
  }

  /// Each match becomes its captures, joined by `between`.
  std::string Substitute(const Regex& regex, const std::string& text, std::string_view between) const {
    std::string out;
    std::vector<Regex::Group> groups;
    size_t done = 0;
    while (Find(regex, text, done, &groups, deadline_) && groups[0].end > groups[0].start) {
      out.append(text, done, groups[0].start - done);
      for (size_t i = 1; i < groups.size(); ++i) {
        if (i > 1) out += between;
        out.append(text, groups[i].start, groups[i].end - groups[i].start);
      }
      done = groups[0].end;
    }
    return out.append(text, done);
  }

  /// Content of an answer that is one \text{…}.
  std::string UnwrapText(const std::string& answer) const {
    std::vector<Regex::Group> groups;
    if (!Find(patterns_.whole_text, answer, 0, &groups, deadline_)) return answer;
    return std::string(Trim(std::string_view(answer).substr(groups[1].start, groups[1].end - groups[1].start)));
  }

  /// Numbers as Python's float() reads them, without inf and nan.
  std::optional<double> ParseFloat(const std::string& text) const {
    if (!Matches(patterns_.number, text)) return std::nullopt;
    const double value = std::strtod(text.c_str(), nullptr);
    return std::isfinite(value) ? std::optional(value) : std::nullopt;
  }

  std::string DropThousandsCommas(const std::string& text) const { return Substitute(patterns_.thousands, text, ""); }

  bool IsWholeText(const std::string& text) const {
    const std::optional<double> value = ParseFloat(DropThousandsCommas(text));
    return value && IsWhole(*value);
  }

  std::string CanonicalWhole(std::string text) const;
  std::vector<std::string> Elements(const std::string& normalised) const;
  bool SameElement(const std::string& answer, const std::string& label) const;

  const AnswerPatterns& patterns_;
  Deadline deadline_;
};

/// Digits and sign, written in one way. Whole numbers of any length keep all their digits.
std::string Comparison::CanonicalWhole(std::string text) const {
  ReplaceAll(&text, ",", "");
  if (!Matches(patterns_.digits, text)) return WholeText(ParseFloat(text).value_or(0));
  const bool negative = text[0] == '-';
  const size_t first = text.find_first_not_of("-0");
  if (first == std::string::npos) return "0";
  return (negative ? "-" : "") + text.substr(first);
}

std::vector<std::string> Comparison::Elements(const std::string& normalised) const {
  const std::string text = DropThousandsCommas(normalised);
  const auto is_bracket = [](char c) { return kBrackets.find(c) != std::string_view::npos; };
  const bool tuple = text.size() > 2 && is_bracket(text.front()) && is_bracket(text.back()) &&
                     std::string_view(text).substr(1, text.size() - 2).find_first_of(kBrackets) == std::string_view::npos;
  if (!tuple) return {text};
  std::vector<std::string> elements;
  for (size_t start = 1; start < text.size();) {
    const size_t end = std::min(text.find(',', start), text.size() - 1);
    elements.emplace_back(Trim(std::string_view(text).substr(start, end - start)));
    start = end + 1;
  }
  return elements;
}

bool Comparison::SameElement(const std::string& answer, const std::string& label) const {
  deadline_.Check();
  if (Matches(patterns_.fraction, answer) && Matches(patterns_.fraction, label)) return answer == label;
  const bool whole = IsWholeText(label);
  if (whole != IsWholeText(answer)) return false;
  return whole ? CanonicalWhole(answer) == CanonicalWhole(label) : SameValue(answer, label);
}

std::string Comparison::Latex(const std::string& answer) const {
  const std::string unwrapped = UnwrapText(std::string(Trim(answer)));
  std::string text = unwrapped;
  for (const char* gone : {"\n", "\\!"}) ReplaceAll(&text, gone, "");
  ReplaceAll(&text, "\\\\", "\\");
  for (const char* fraction : {"tfrac", "dfrac"}) ReplaceAll(&text, fraction, "frac");
  for (const char* gone : {"\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"}) ReplaceAll(&text, gone, "");
  if (const size_t unit = text.find("\\text{ "); unit != std::string::npos) {
    if (text.find("\\text{ ", unit + 1) != std::string::npos) return unwrapped;
    text.resize(unit);
  }
  for (const char* gone : {"\\%", "%"}) ReplaceAll(&text, gone, "");
  ReplaceAll(&text, " .", " 0.");
  ReplaceAll(&text, "{.", "{0.");
  if (text.empty()) return text;
  if (text[0] == '.') text.insert(0, "0");
  if (const size_t equals = text.find('='); equals <= 2 && text.find('=', equals + 1) == std::string::npos) text.erase(0, equals + 1);
  const std::optional<std::string> rooted = BraceRoots(text);
  if (!rooted) return unwrapped;
  text = *rooted;
  ReplaceAll(&text, " ", "");
  const std::optional<std::string> fractioned = BraceFractions(text);
  if (!fractioned) return unwrapped;
  text = *fractioned;
  if (text == "0.5") return "\\frac{1}{2}";
  std::vector<Regex::Group> groups;
  if (!Find(patterns_.quotient, text, 0, &groups, deadline_)) return text;
  return "\\frac{" + text.substr(0, groups[1].end) + "}{" + text.substr(groups[2].start) + "}";
}

std::string Comparison::Expression(const std::string& answer) const {
  std::string text = UnwrapText(answer);
  for (const char* gone : {"\\%", "\\$", "$", "%"}) ReplaceAll(&text, gone, "");
  for (const char* between : {" or ", " and "}) ReplaceAll(&text, between, " , ");
  ReplaceAll(&text, "million", "*10^6");
  ReplaceAll(&text, "billion", "*10^9");
  ReplaceAll(&text, "trillion", "*10^12");
  text = Substitute(patterns_.degrees, Substitute(patterns_.units, text, ""), "");
  if (text.size() > 1 && text.front() == '{' && text.back() == '}') text = text.substr(1, text.size() - 2);
  text = Substitute(patterns_.small_space, text, "");
  if (const auto value = ParseFloat(text); value && IsWhole(*value)) text = CanonicalWhole(std::string(Trim(text)));
  if (text.find('\\') != std::string::npos) {
    for (const char* fraction : {"\\tfrac", "\\dfrac"}) ReplaceAll(&text, fraction, "\\frac");
    ReplaceAll(&text, "\\frac", " \\frac");  // a number in front of it makes a mixed number
    text = Trim(LatexToText(text));
  }
  text = Substitute(patterns_.mixed, Substitute(patterns_.minus, text, ""), "+");
  for (const char* gone : {" ", "{", "}"}) ReplaceAll(&text, gone, "");
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c ^ 0x20);
  }
  return IsWholeText(text) ? CanonicalWhole(text) : text;
}

bool Comparison::Same(const std::string& answer, const std::string& label) const {
  if (answer.size() > kLongestAnswer) return answer == label;
  if (Latex(answer) == Latex(label)) return true;
  const std::string given = Expression(answer), expected = Expression(label);
  if (given == expected) return true;
  if (given.empty() || expected.empty()) return false;
  const std::vector<std::string> elements = Elements(given), wanted = Elements(expected);
  if (elements.size() != wanted.size()) return false;
  if (wanted.size() > 1 && (given.front() != expected.front() || given.back() != expected.back())) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!SameElement(elements[i], wanted[i])) return false;
  }
  return true;
}

}  // namespace

MathAnswers::MathAnswers(int64_t timeout_ms)
    : timeout_ms_(timeout_ms), patterns_(std::make_unique<AnswerPatterns>(text::RegexLimits{.timeout_ms = timeout_ms})) {}
MathAnswers::~MathAnswers() = default;

bool MathAnswers::Same(const std::string& answer, const std::string& label) const { return Comparison(*patterns_, timeout_ms_).Same(answer, label); }

std::string MathAnswers::NormaliseLatex(const std::string& answer) const { return Comparison(*patterns_, timeout_ms_).Latex(answer); }

std::string MathAnswers::NormaliseExpression(const std::string& answer) const { return Comparison(*patterns_, timeout_ms_).Expression(answer); }

std::optional<std::string> LastBoxed(std::string_view text) {
  constexpr std::string_view kOpen = "\\boxed{";
  const size_t start = text.rfind("\\boxed");
  if (start == std::string_view::npos || !text.substr(start).starts_with(kOpen)) return std::nullopt;
  int open = 0;
  for (size_t i = start; i < text.size(); ++i) {
    if (text[i] == '{') ++open;
    if (text[i] == '}' && --open == 0) return std::string(text.substr(start + kOpen.size(), i - start - kOpen.size()));
  }
  return std::nullopt;
}

}  // namespace april::reward
