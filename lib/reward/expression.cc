#include "reward/expression.h"

#include <array>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <optional>
#include <set>
#include <string_view>

#include "base/utf8.h"
#include "reward/characters.h"

namespace april::reward {
namespace {

using Number = std::complex<long double>;

constexpr size_t kLongest = 2000;  // bytes; longer answers are no answers
constexpr int kMaxNesting = 100;
constexpr long double kTolerance = 1e-16L;
constexpr long double kPi = 3.141592653589793238462643383279502884L;

bool IsLetter(char c) { return IsAsciiLetter(c) || static_cast<unsigned char>(c) >= 0x80; }

/// Points in all four quadrants, so that sqrt(x^2) and x differ. A letter's value depends on the letter alone.
Number VariableAt(std::string_view letter, int point) {
  unsigned hash = 17;
  for (const char c : letter) hash = hash * 31 + static_cast<unsigned char>(c);
  const long double radius = 0.6L + static_cast<long double>(hash % 89) / 97;
  const long double angle = 0.3L + static_cast<long double>(hash % 53) / 71 + kPi / 2 * static_cast<long double>(point);
  return std::polar(radius, angle);
}

/// Evaluates while it parses. A fault makes the result nullopt.
class Evaluator {
 public:
  Evaluator(std::string_view text, int point) : text_(text), point_(point) {}

  std::optional<Number> Run() {
    const Number value = Sum();
    if (failed_ || at_ != text_.size() || !std::isfinite(value.real()) || !std::isfinite(value.imag())) return std::nullopt;
    return value;
  }

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Accept(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  Number Fail() {
    failed_ = true;
    at_ = text_.size() + 1;
    return 0;
  }

  Number Sum() {
    if (++depth_ > kMaxNesting) return Fail();
    Number value = Product();
    while (Peek() == '+' || Peek() == '-') value = Accept('+') ? value + Product() : (++at_, value - Product());
    --depth_;
    return value;
  }

  Number Product() {
    Number value = Signed();
    while (true) {
      if (Accept('*')) {
        value *= Signed();
      } else if (Accept('/')) {
        value /= Signed();
      } else if (Peek() == '(' || IsLetter(Peek()) || IsDigit(Peek())) {
        value *= Power();
      } else {
        return value;
      }
    }
  }

  Number Signed() {
    bool negative = false;
    while (Peek() == '-' || Peek() == '+') negative ^= text_[at_++] == '-';
    return negative ? -Power() : Power();
  }

  Number Power() {
    const Number base = Atom();
    if (!Accept('^')) return base;
    if (++depth_ > kMaxNesting) return Fail();
    const Number exponent = Signed();
    --depth_;
    if (exponent.imag() != 0 || exponent.real() != std::floor(exponent.real()) || std::abs(exponent.real()) > 64) return std::pow(base, exponent);
    Number value = 1;  // by multiplication: exact where std::pow goes through logarithms
    for (int i = 0; i < static_cast<int>(std::abs(exponent.real())); ++i) value *= base;
    return exponent.real() < 0 ? Number(1) / value : value;
  }

  Number Atom() {
    if (Accept('(')) {
      const Number value = Sum();
      return Accept(')') ? value : Fail();
    }
    if (IsDigit(Peek()) || Peek() == '.') return Literal();
    if (!IsLetter(Peek())) return Fail();
    if (text_.substr(at_).starts_with("sqrt")) {
      at_ += 4;
      return std::sqrt(Atom());
    }
    if (text_.substr(at_).starts_with("pi")) {
      at_ += 2;
      return kPi;
    }
    if (text_.substr(at_).starts_with("ln")) {
      at_ += 2;
      return std::log(Atom());
    }
    const size_t start = at_;
    NextChar(text_, &at_);
    return VariableAt(text_.substr(start, at_ - start), point_);
  }

  Number Literal() {
    const size_t start = at_;
    while (IsDigit(Peek())) ++at_;
    if (Accept('.')) {
      while (IsDigit(Peek())) ++at_;
    }
    const std::string digits(text_.substr(start, at_ - start));
    return digits == "." ? Fail() : Number(std::strtold(digits.c_str(), nullptr));
  }

  std::string_view text_;
  int point_;
  size_t at_ = 0;
  int depth_ = 0;
  bool failed_ = false;
};

size_t CountLetters(std::string_view text) {
  std::set<std::string_view> letters;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with("sqrt") || text.substr(at).starts_with("frac")) {
      at += 4;
      continue;
    }
    const size_t start = at;
    NextChar(text, &at);
    if (IsLetter(text[start])) letters.insert(text.substr(start, at - start));
  }
  return letters.size();
}

bool HasUnwantedExponent(std::string_view text) {
  for (size_t at = text.find('^'); at != std::string_view::npos; at = text.find('^', at + 1)) {
    const std::string_view exponent = text.substr(at + 1);
    if (exponent.starts_with('{') || exponent.starts_with('(')) return true;
    if (exponent.size() > 1 && IsDigit(exponent[0]) && (IsDigit(exponent[1]) || exponent[1] == '^')) return true;
  }
  return false;
}

}  // namespace

bool SameValue(const std::string& left, const std::string& right) {
  if (left.size() > kLongest || right.size() > kLongest) return false;
  if (CountLetters(left + " " + right) > 2 || HasUnwantedExponent(left) || HasUnwantedExponent(right)) return false;
  for (int point = 0; point < 4; ++point) {
    const std::optional<Number> a = Evaluator(left, point).Run(), b = Evaluator(right, point).Run();
    if (!a || !b || std::abs(*a - *b) > kTolerance * (std::abs(*a) + std::abs(*b))) return false;
  }
  return true;
}

}  // namespace april::reward
