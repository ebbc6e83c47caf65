// The part of Jinja that chat templates use, as transformers sets it up (trim_blocks, lstrip_blocks): parsed once, rendered with variables.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace april::text::jinja {

struct Expression {
  enum class Kind {
    kLiteral,      ///< literal
    kName,         ///< name
    kList,         ///< args
    kDict,         ///< args: key, value, key, value, …
    kAttribute,    ///< args[0].name
    kItem,         ///< args[0][args[1]]
    kSlice,        ///< args[0][args[1]:args[2]:args[3]], absent parts are null
    kCall,         ///< args[0](args[1], …, kwargs)
    kFilter,       ///< args[0] | name(args[1], …, kwargs)
    kTest,         ///< args[0] is name args[1], …
    kUnary,        ///< name args[0]: "not", "-", "+"
    kBinary,       ///< args[0] name args[1]: "and", "or", "+", "in", "==", …
    kConditional,  ///< args[0] if args[1] else args[2] (null: undefined)
  };
  Kind kind;
  std::string name;
  Json literal;
  std::vector<std::unique_ptr<Expression>> args;
  std::vector<std::pair<std::string, std::unique_ptr<Expression>>> kwargs;
};

struct Statement {
  enum class Kind {
    kText,    ///< text
    kOutput,  ///< expression
    kIf,      ///< if expression: body, else: otherwise
    kFor,     ///< for names in expression [if condition]: body, else: otherwise
    kSet,     ///< names[0] = expression; with names[1] the attribute of a namespace; without expression: what body renders
    kBreak,
    kContinue,
  };
  Kind kind;
  std::string text;
  std::vector<std::string> names;
  std::unique_ptr<Expression> expression, condition;
  std::vector<Statement> body, otherwise;
};

/// Throws Incompatible on a construct outside the supported part or a fault in the template, with its line.
std::vector<Statement> Parse(const std::string& source);

/// Throws Incompatible on a function, filter, test or method that is not supported (by name) or an operation on values that it does not fit; Usage
/// when the template calls raise_exception; Data when the result or the work outgrows all reason.
std::string Render(const std::vector<Statement>& program, const Json& variables);

}  // namespace april::text::jinja
