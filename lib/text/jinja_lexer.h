// Cuts a Jinja template into text and tags, and tags into tokens.
#pragma once

#include <string>
#include <vector>

namespace april::text::jinja {

struct Token {
  enum class Kind { kText, kOutputBegin, kOutputEnd, kBlockBegin, kBlockEnd, kName, kInteger, kFloat, kString, kOperator, kEnd };
  Kind kind;
  std::string text;  ///< strings: with escapes resolved
  int line;
};

/// White space is already controlled: "-" at tags, trim_blocks, lstrip_blocks, no line end at the template's end. Comments are gone.
std::vector<Token> Tokenize(const std::string& source);

}  // namespace april::text::jinja
