#include "reward/latex_text.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "base/utf8.h"

namespace april::reward {
namespace {

constexpr int kMaxGroups = 100;

const std::unordered_map<std::string_view, const char*>& Commands() {
  static const std::unordered_map<std::string_view, const char*> commands = {
      {"pi", "pi"},   {"infty", "inf"}, {"cdot", "*"},    {"times", "*"},   {"div", "/"},   {"cup", "U"},   {"cap", "∩"},   {"pm", "±"},
      {"le", "≤"},    {"leq", "≤"},     {"ge", "≥"},      {"geq", "≥"},     {"ne", "≠"},    {"neq", "≠"},   {"in", "∈"},    {"ln", "ln"},
      {"log", "log"}, {"sin", "sin"},   {"cos", "cos"},   {"tan", "tan"},   {"quad", " "},  {"qquad", " "}, {"alpha", "α"}, {"beta", "β"},
      {"gamma", "γ"}, {"delta", "δ"},   {"epsilon", "ϵ"}, {"zeta", "ζ"},    {"eta", "η"},   {"theta", "θ"}, {"kappa", "κ"}, {"lambda", "λ"},
      {"mu", "μ"},    {"nu", "ν"},      {"xi", "ξ"},      {"rho", "ρ"},     {"sigma", "σ"}, {"tau", "τ"},   {"phi", "ϕ"},   {"chi", "χ"},
      {"psi", "ψ"},   {"omega", "ω"},   {"ell", "ℓ"},     {"emptyset", "∅"}};
  return commands;
}

class Converter {
 public:
  explicit Converter(std::string_view latex) : latex_(latex) {}

  /// Up to the end, or the brace that closes the group at hand.
  std::string Group() {
    std::string text;
    if (++depth_ > kMaxGroups) at_ = latex_.size();
    while (at_ < latex_.size() && latex_[at_] != '}') {
      const char c = latex_[at_++];
      if (c == '{') {
        text += Group();
        ++at_;
      } else if (c == '\\') {
        text += Command();
      } else {
        text += c == '~' ? ' ' : c;
      }
    }
    --depth_;
    return text;
  }

 private:
  /// The next group, command or single character.
  std::string Argument() {
    while (at_ < latex_.size() && latex_[at_] == ' ') ++at_;
    if (at_ >= latex_.size() || latex_[at_] == '}') return {};
    const size_t start = at_;
    const char c = latex_[at_++];
    if (c == '\\') {
      if (++depth_ > kMaxGroups) return {};
      std::string text = Command();
      --depth_;
      return text;
    }
    if (c != '{') {
      NextChar(latex_, &(at_ = start));
      return std::string(latex_.substr(start, at_ - start));
    }
    std::string text = Group();
    ++at_;
    return text;
  }

  static std::string Operand(const std::string& text) {
    const bool number = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return IsDigit(c) || c == '.'; });
    size_t first = 0;
    if (!text.empty()) NextChar(text, &first);
    const bool single = !text.empty() && first == text.size();
    return number || single || text == "pi" ? text : "(" + text + ")";
  }

  std::string Command() {
    if (at_ >= latex_.size()) return {};
    if (!IsAsciiLetter(latex_[at_])) {
      const size_t sign = at_;
      NextChar(latex_, &at_);
      const char c = latex_[sign];
      if (c == ' ' || c == ',' || c == ';' || c == ':' || c == '\\') return " ";
      return c == '!' ? std::string() : std::string(latex_.substr(sign, at_ - sign));  // \{ \} \% \$ and their like
    }
    const size_t start = at_;
    while (at_ < latex_.size() && IsAsciiLetter(latex_[at_])) ++at_;
    const std::string_view name = latex_.substr(start, at_ - start);
    if (name == "frac" || name == "dfrac" || name == "tfrac") {
      const std::string over = Argument();
      return Operand(over) + "/" + Operand(Argument());
    }
    if (name == "sqrt") {
      std::string degree;
      if (at_ < latex_.size() && latex_[at_] == '[') {
        const size_t close = std::min(latex_.find(']', at_), latex_.size());
        degree = latex_.substr(at_ + 1, close - at_ - 1);
        at_ = std::min(close + 1, latex_.size());
      }
      const std::string radicand = Argument();
      return degree.empty() ? "sqrt(" + radicand + ")" : "(" + radicand + ")^(1/" + degree + ")";
    }
    const auto known = Commands().find(name);
    return known == Commands().end() ? std::string() : known->second;
  }

  std::string_view latex_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string LatexToText(const std::string& latex) { return Converter(latex).Group(); }

}  // namespace april::reward
