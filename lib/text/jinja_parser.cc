#include <algorithm>
#include <initializer_list>

#include "base/error.h"
#include "text/jinja.h"
#include "text/jinja_lexer.h"

namespace april::text::jinja {
namespace {

using ExpressionPtr = std::unique_ptr<Expression>;
constexpr int kMaxNesting = 200;

ExpressionPtr Make(Expression::Kind kind, std::string name = {}) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->name = std::move(name);
  return node;
}

template <typename... Args>
ExpressionPtr MakeWith(Expression::Kind kind, std::string name, Args... args) {
  ExpressionPtr node = Make(kind, std::move(name));
  (node->args.push_back(std::move(args)), ...);
  return node;
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  std::vector<Statement> Run() {
    std::vector<Statement> program = Body({});
    if (Peek().kind != Token::Kind::kEnd) Fail("'" + tokens_[at_ + 1].text + "' ends nothing");
    return program;
  }

 private:
  using Kind = Token::Kind;
  using E = Expression::Kind;

  const Token& Peek() const { return tokens_[at_]; }
  const Token& Next() { return tokens_[at_++]; }
  bool IsOperator(const char* text) const { return Peek().kind == Kind::kOperator && Peek().text == text; }
  bool IsName(const char* text) const { return Peek().kind == Kind::kName && Peek().text == text; }
  bool Accept(Kind kind, const char* text) {
    const bool found = Peek().kind == kind && Peek().text == text;
    if (found) ++at_;
    return found;
  }
  bool AcceptOperator(const char* text) { return Accept(Kind::kOperator, text); }
  bool AcceptName(const char* text) { return Accept(Kind::kName, text); }
  void Expect(Kind kind, const char* what) {
    if (Next().kind != kind) Fail(std::string("expected ") + what + ", found '" + tokens_[at_ - 1].text + "'");
  }
  void ExpectOperator(const char* text) {
    if (!AcceptOperator(text)) Fail(std::string("expected '") + text + "', found '" + Peek().text + "'");
  }
  std::string ExpectName() {
    if (Peek().kind != Kind::kName) Fail("expected a name, found '" + Peek().text + "'");
    return Next().text;
  }
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error::Incompatible("chat template, line " + std::to_string(Peek().line) + ": " + what);
  }

  bool AtBlock(std::initializer_list<const char*> names) const {
    if (Peek().kind != Kind::kBlockBegin) return false;
    const std::string& name = tokens_[at_ + 1].text;
    return std::any_of(names.begin(), names.end(), [&name](const char* n) { return name == n; });
  }

  /// Statements up to one of the named tags, which is left to the caller.
  std::vector<Statement> Body(std::initializer_list<const char*> ends) {
    if (++depth_ > kMaxNesting) Fail("nested too deeply");
    std::vector<Statement> body;
    while (Peek().kind != Kind::kEnd && !AtBlock(ends)) {
      if (Peek().kind == Kind::kText) {
        Statement text{Statement::Kind::kText, Next().text, {}, {}, {}, {}, {}};
        body.push_back(std::move(text));
      } else if (Peek().kind == Kind::kOutputBegin) {
        ++at_;
        Statement output{Statement::Kind::kOutput, {}, {}, Parse(), {}, {}, {}};
        Expect(Kind::kOutputEnd, "'}}'");
        body.push_back(std::move(output));
      } else {
        if (AtBlock({"endif", "endfor", "endset", "else", "elif"})) break;  // closes something further out, or nothing
        body.push_back(Block());
      }
    }
    --depth_;
    return body;
  }

  Statement Block() {
    Expect(Kind::kBlockBegin, "a tag");
    const std::string name = ExpectName();
    if (name == "if") return If();
    if (name == "for") return For();
    if (name == "set") return SetStatement();
    if (name == "break" || name == "continue") {
      Expect(Kind::kBlockEnd, "'%}'");
      return {name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue, {}, {}, {}, {}, {}, {}};
    }
    --at_;
    Fail("the tag '" + name + "' is not supported");
  }

  void EndTag(const char* name) {
    if (!AtBlock({name})) Fail(std::string("expected '") + name + "'");
    at_ += 2;
    Expect(Kind::kBlockEnd, "'%}'");
  }

  Statement If() {
    Statement statement{Statement::Kind::kIf, {}, {}, Parse(), {}, {}, {}};
    Expect(Kind::kBlockEnd, "'%}'");
    statement.body = Body({"elif", "else", "endif"});
    if (AtBlock({"elif"})) {
      at_ += 2;
      if (++depth_ > kMaxNesting) Fail("nested too deeply");
      statement.otherwise.push_back(If());
      --depth_;
      return statement;
    }
    if (AtBlock({"else"})) {
      EndTag("else");
      statement.otherwise = Body({"endif"});
    }
    EndTag("endif");
    return statement;
  }

  Statement For() {
    Statement statement{Statement::Kind::kFor, {}, {}, {}, {}, {}, {}};
    do statement.names.push_back(ExpectName());
    while (AcceptOperator(","));
    if (!AcceptName("in")) Fail("expected 'in'");
    statement.expression = Or();
    if (AcceptName("if")) statement.condition = Parse();
    if (AcceptName("recursive")) Fail("a recursive loop is not supported");
    Expect(Kind::kBlockEnd, "'%}'");
    statement.body = Body({"else", "endfor"});
    if (AtBlock({"else"})) {
      EndTag("else");
      statement.otherwise = Body({"endfor"});
    }
    EndTag("endfor");
    return statement;
  }

  Statement SetStatement() {
    Statement statement{Statement::Kind::kSet, {}, {ExpectName()}, {}, {}, {}, {}};
    if (AcceptOperator(".")) statement.names.push_back(ExpectName());
    if (AcceptOperator("=")) {
      statement.expression = Parse();
      Expect(Kind::kBlockEnd, "'%}'");
    } else {
      Expect(Kind::kBlockEnd, "'='");
      statement.body = Body({"endset"});
      EndTag("endset");
    }
    return statement;
  }

  // Expressions, from what binds least to what binds most.

  ExpressionPtr Parse() {
    if (++depth_ > kMaxNesting) Fail("nested too deeply");
    ExpressionPtr value = Or();
    while (AcceptName("if")) {
      ExpressionPtr condition = Or();
      value = MakeWith(E::kConditional, {}, std::move(value), std::move(condition), AcceptName("else") ? Parse() : nullptr);
    }
    --depth_;
    return value;
  }

  ExpressionPtr Or() {
    ExpressionPtr left = And();
    while (AcceptName("or")) left = MakeWith(E::kBinary, "or", std::move(left), And());
    return left;
  }

  ExpressionPtr And() {
    ExpressionPtr left = Not();
    while (AcceptName("and")) left = MakeWith(E::kBinary, "and", std::move(left), Not());
    return left;
  }

  ExpressionPtr Not() {
    if (!AcceptName("not")) return Compare();
    if (++depth_ > kMaxNesting) Fail("nested too deeply");
    ExpressionPtr operand = Not();
    --depth_;
    return MakeWith(E::kUnary, "not", std::move(operand));
  }

  ExpressionPtr Compare() {
    ExpressionPtr left = Sum();
    bool compared = false;
    while (true) {
      std::string op;
      for (const char* known : {"==", "!=", "<", ">", "<=", ">="}) {
        if (IsOperator(known)) op = known;
      }
      if (!op.empty()) {
        ++at_;
      } else if (AcceptName("in")) {
        op = "in";
      } else if (IsName("not") && tokens_[at_ + 1].kind == Kind::kName && tokens_[at_ + 1].text == "in") {
        at_ += 2;
        op = "not in";
      } else {
        return left;
      }
      if (compared) Fail("a chain of comparisons is not supported");
      compared = true;
      left = MakeWith(E::kBinary, op, std::move(left), Sum());
    }
  }

  ExpressionPtr LeftAssociative(std::initializer_list<const char*> operators, ExpressionPtr (Parser::*operand)()) {
    ExpressionPtr left = (this->*operand)();
    while (true) {
      const auto found = std::find_if(operators.begin(), operators.end(), [this](const char* op) { return IsOperator(op); });
      if (found == operators.end()) return left;
      ++at_;
      left = MakeWith(E::kBinary, *found, std::move(left), (this->*operand)());
    }
  }

  ExpressionPtr Sum() { return LeftAssociative({"+", "-"}, &Parser::Concat); }
  ExpressionPtr Concat() { return LeftAssociative({"~"}, &Parser::Product); }
  ExpressionPtr Product() { return LeftAssociative({"*", "/", "//", "%"}, &Parser::Unary); }

  ExpressionPtr Unary() {
    if (IsOperator("**")) Fail("'**' is not supported");
    for (const char* sign : {"-", "+"}) {
      if (!AcceptOperator(sign)) continue;
      if (++depth_ > kMaxNesting) Fail("nested too deeply");
      ExpressionPtr operand = Postfix(Primary());
      --depth_;
      return Filters(MakeWith(E::kUnary, sign, std::move(operand)));
    }
    return Filters(Postfix(Primary()));
  }

  ExpressionPtr Primary() {
    const Token token = Next();
    if (token.kind == Kind::kString) {
      ExpressionPtr node = Make(E::kLiteral);
      std::string text = token.text;
      while (Peek().kind == Kind::kString) text += Next().text;  // neighbours are one string
      node->literal = std::move(text);
      return node;
    }
    if (token.kind == Kind::kInteger || token.kind == Kind::kFloat) {
      ExpressionPtr node = Make(E::kLiteral);
      try {
        node->literal = token.kind == Kind::kInteger ? Json(static_cast<int64_t>(std::stoll(token.text))) : Json(std::stod(token.text));
      } catch (const std::exception&) {
        Fail("the number " + token.text + " is too large");
      }
      return node;
    }
    if (token.kind == Kind::kName) return NameOrConstant(token.text);
    if (token.kind == Kind::kOperator && token.text == "(") {
      ExpressionPtr inner = Parse();
      if (IsOperator(",")) Fail("tuples are not supported");
      ExpectOperator(")");
      return inner;
    }
    if (token.kind == Kind::kOperator && token.text == "[") {
      ExpressionPtr list = Make(E::kList);
      while (!AcceptOperator("]")) {
        list->args.push_back(Parse());
        if (!IsOperator("]")) ExpectOperator(",");
      }
      return list;
    }
    if (token.kind == Kind::kOperator && token.text == "{") {
      ExpressionPtr dict = Make(E::kDict);
      while (!AcceptOperator("}")) {
        dict->args.push_back(Parse());
        ExpectOperator(":");
        dict->args.push_back(Parse());
        if (!IsOperator("}")) ExpectOperator(",");
      }
      return dict;
    }
    --at_;
    Fail("expected an expression, found '" + token.text + "'");
  }

  ExpressionPtr NameOrConstant(const std::string& name) {
    ExpressionPtr node = Make(E::kLiteral);
    if (name == "true" || name == "True") {
      node->literal = true;
    } else if (name == "false" || name == "False") {
      node->literal = false;
    } else if (name != "none" && name != "None") {
      node = Make(E::kName, name);
    }
    return node;
  }

  ExpressionPtr Postfix(ExpressionPtr value) {
    while (true) {
      if (AcceptOperator(".")) {
        value = MakeWith(E::kAttribute, ExpectName(), std::move(value));
      } else if (AcceptOperator("[")) {
        value = Subscript(std::move(value));
      } else if (IsOperator("(")) {
        value = MakeWith(E::kCall, {}, std::move(value));
        Arguments(value.get());
      } else {
        return value;
      }
    }
  }

  ExpressionPtr Subscript(ExpressionPtr value) {
    ExpressionPtr parts[3];
    int count = 0;
    bool slice = false;
    while (!AcceptOperator("]")) {
      if (AcceptOperator(":")) {
        slice = true;
        if (++count > 2) Fail("a slice has at most three parts");
      } else {
        parts[count] = Parse();
      }
    }
    if (slice) return MakeWith(E::kSlice, {}, std::move(value), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
    if (!parts[0]) Fail("expected an index");
    return MakeWith(E::kItem, {}, std::move(value), std::move(parts[0]));
  }

  void Arguments(Expression* call) {
    ExpectOperator("(");
    while (!AcceptOperator(")")) {
      const bool named = Peek().kind == Kind::kName && tokens_[at_ + 1].kind == Kind::kOperator && tokens_[at_ + 1].text == "=";
      if (named) {
        std::string name = Next().text;
        ++at_;
        call->kwargs.emplace_back(std::move(name), Parse());
      } else {
        call->args.push_back(Parse());
      }
      if (!IsOperator(")")) ExpectOperator(",");
    }
  }

  ExpressionPtr Filters(ExpressionPtr value) {
    while (true) {
      if (AcceptOperator("|")) {
        value = MakeWith(E::kFilter, ExpectName(), std::move(value));
        if (IsOperator("(")) Arguments(value.get());
        value = Postfix(std::move(value));
      } else if (AcceptName("is")) {
        const bool negated = AcceptName("not");
        value = MakeWith(E::kTest, ExpectName(), std::move(value));
        if (IsOperator("(")) {
          Arguments(value.get());
        } else if (Peek().kind == Kind::kString || Peek().kind == Kind::kInteger) {
          value->args.push_back(Primary());
        }
        if (negated) value = MakeWith(E::kUnary, "not", std::move(value));
      } else {
        return value;
      }
    }
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<Statement> Parse(const std::string& source) { return Parser(Tokenize(source)).Run(); }

}  // namespace april::text::jinja
