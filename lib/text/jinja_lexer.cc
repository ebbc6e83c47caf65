#include "text/jinja_lexer.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"

namespace april::text::jinja {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";

bool IsSpace(char c) { return kSpaces.find(c) != std::string_view::npos; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Lexer {
 public:
  /// Line ends become \n; one at the very end is dropped.
  explicit Lexer(const std::string& source) {
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\r') {
        source_ += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      } else {
        source_ += source[i];
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<Token> Run() {
    while (at_ < source_.size()) {
      const size_t tag = FindTag();
      std::string text = source_.substr(at_, tag - at_);
      if (tag == source_.size()) {
        Advance(tag);
        AddText(std::move(text));
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      if (sign == '-') {
        text.erase(text.find_last_not_of(kSpaces) + 1);
      } else if (sign != '+' && kind != '{') {
        StripLineStart(&text);
      }
      Advance(tag + (sign == '-' || sign == '+' ? 3 : 2));
      AddText(std::move(text));
      if (kind == '#') {
        SkipComment();
      } else {
        ReadTag(kind == '{');
      }
    }
    Add(Token::Kind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw Error::Incompatible("chat template, line " + std::to_string(line_) + ": " + what); }

  void Add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void AddText(std::string text) {
    if (!text.empty()) Add(Token::Kind::kText, std::move(text));
  }

  void Advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_), source_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }

  size_t FindTag() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i) {
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    }
    return source_.size();
  }

  /// lstrip_blocks: white space between the start of the line and the tag goes.
  void StripLineStart(std::string* text) const {
    const size_t line_start = text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1;
    if (line_start == 0 && !line_starting_) return;
    if (text->find_first_not_of(kSpaces, line_start) == std::string::npos) text->erase(line_start);
  }

  /// Behind a tag: "-" takes all white space, else a block or comment takes one line end (trim_blocks).
  void AfterTag(size_t end, char sign, bool is_output) {
    if (sign == '-') {
      while (end < source_.size() && IsSpace(source_[end])) ++end;
    } else if (sign != '+' && !is_output && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    Advance(end);
  }

  void SkipComment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) Fail("a comment is not closed");
    AfterTag(end + 2, end > at_ ? source_[end - 1] : '\0', false);
  }

  void ReadTag(bool is_output) {
    const std::string_view close = is_output ? "}}" : "%}";
    Add(is_output ? Token::Kind::kOutputBegin : Token::Kind::kBlockBegin, {});
    int open = 0;  // brackets of the expression: a dictionary's } is no end of the tag
    while (true) {
      while (at_ < source_.size() && IsSpace(source_[at_])) Advance(at_ + 1);
      if (at_ >= source_.size()) Fail("a tag is not closed");
      const std::string_view rest = std::string_view(source_).substr(at_);
      const bool sign = (rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(close);
      if (open == 0 && (sign || rest.starts_with(close))) {
        Add(is_output ? Token::Kind::kOutputEnd : Token::Kind::kBlockEnd, {});
        AfterTag(at_ + (sign ? 3 : 2), sign ? rest[0] : '\0', is_output);
        return;
      }
      ReadToken(rest, &open);
    }
  }

  void ReadToken(std::string_view rest, int* open) {
    size_t length = 0;
    if (IsNameStart(rest[0])) {
      while (length < rest.size() && (IsNameStart(rest[length]) || IsDigit(rest[length]))) ++length;
      Add(Token::Kind::kName, std::string(rest.substr(0, length)));
    } else if (IsDigit(rest[0])) {
      while (length < rest.size() && IsDigit(rest[length])) ++length;
      const bool fraction = length + 1 < rest.size() && rest[length] == '.' && IsDigit(rest[length + 1]);
      if (fraction) {
        ++length;
        while (length < rest.size() && IsDigit(rest[length])) ++length;
      }
      Add(fraction ? Token::Kind::kFloat : Token::Kind::kInteger, std::string(rest.substr(0, length)));
    } else if (rest[0] == '"' || rest[0] == '\'') {
      length = ReadString(rest);
    } else {
      for (const std::string_view op : {"==", "!=", "<=", ">=", "//", "**"}) {
        if (rest.starts_with(op)) length = 2;
      }
      if (length == 0 && std::string_view("+-*/%~[](){}<>=.:|,").find(rest[0]) != std::string_view::npos) length = 1;
      if (length == 0) Fail("unexpected '" + std::string(1, rest[0]) + "'");
      if (std::string_view("([{").find(rest[0]) != std::string_view::npos) ++*open;
      if (std::string_view(")]}").find(rest[0]) != std::string_view::npos && --*open < 0) Fail("'" + std::string(1, rest[0]) + "' closes nothing");
      Add(Token::Kind::kOperator, std::string(rest.substr(0, length)));
    }
    Advance(at_ + length);
  }

  /// Returns the length of the literal in the source.
  size_t ReadString(std::string_view rest) {
    std::string text;
    size_t i = 1;
    for (; i < rest.size() && rest[i] != rest[0]; ++i) {
      if (rest[i] != '\\' || i + 1 >= rest.size()) {
        text += rest[i];
        continue;
      }
      const char escape = rest[++i];
      const std::string_view from = "ntr\\'\"abfv", to = "\n\t\r\\'\"\a\b\f\v";
      if (const size_t known = from.find(escape); known != std::string_view::npos) {
        text += to[known];
      } else if (escape == 'x' || escape == 'u' || escape == 'U') {
        const size_t digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
        const std::string hex(rest.substr(i + 1, digits));
        if (hex.size() != digits || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) Fail("a bad escape in a string");
        AppendChar(static_cast<char32_t>(std::stoul(hex, nullptr, 16)), &text);
        i += digits;
      } else if (escape != '\n') {  // a backslash at the end of a line joins it with the next
        text += '\\';
        text += escape;
      }
    }
    if (i >= rest.size()) Fail("a string is not closed");
    Add(Token::Kind::kString, std::move(text));
    return i + 1;
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(const std::string& source) { return Lexer(source).Run(); }

}  // namespace april::text::jinja
