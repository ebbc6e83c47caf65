#include <map>

#include "base/error.h"
#include "text/jinja.h"
#include "text/jinja_value.h"

namespace april::text::jinja {
namespace {

constexpr int64_t kMostSteps = 1'000'000;
constexpr size_t kMostOutput = 64u << 20;

class Renderer {
 public:
  explicit Renderer(const Json& variables) : scopes_(1) {
    for (const auto& [name, value] : variables.items()) scopes_[0][name] = {value};
  }

  std::string Run(const std::vector<Statement>& program) {
    Execute(program);
    return std::move(out_);
  }

 private:
  enum class Flow { kOn, kBreak, kContinue };
  using Scope = std::map<std::string, Value>;

  void Count() {
    if (++steps_ > kMostSteps) throw Error::Data("chat template: more than " + std::to_string(kMostSteps) + " steps for one chat");
  }

  Flow Execute(const std::vector<Statement>& body) {
    for (const Statement& statement : body) {
      Count();
      const Flow flow = ExecuteOne(statement);
      if (flow != Flow::kOn) return flow;
      if (out_.size() > kMostOutput) throw Error::Data("chat template: the rendered chat outgrows 64 MiB");
    }
    return Flow::kOn;
  }

  Flow ExecuteOne(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText:
        out_ += statement.text;
        break;
      case Statement::Kind::kOutput:
        out_ += ToText(Evaluate(*statement.expression));
        break;
      case Statement::Kind::kIf:
        return Execute(IsTrue(Evaluate(*statement.expression)) ? statement.body : statement.otherwise);
      case Statement::Kind::kFor:
        return Loop(statement);
      case Statement::Kind::kSet:
        Assign(statement);
        break;
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kOn;
  }

  void Assign(const Statement& statement) {
    Value value;
    if (statement.expression) {
      value = Evaluate(*statement.expression);
    } else {
      std::string outer;
      std::swap(outer, out_);
      Execute(statement.body);
      std::swap(outer, out_);
      value = {outer};
    }
    if (statement.names.size() == 1) {
      scopes_.back()[statement.names[0]] = value;
      return;
    }
    const Value space = Lookup(statement.names[0]);
    if (!space.space) FailRender("'" + statement.names[0] + "' is no namespace");
    (*space.space)[statement.names[1]] = value.defined ? value.json : Json();
  }

  void Bind(const Statement& loop, const Json& member) {
    Scope& scope = scopes_.back();
    if (loop.names.size() == 1) {
      scope[loop.names[0]] = {member};
      return;
    }
    if (!member.is_array() || member.size() != loop.names.size()) FailRender("a loop over pairs found something else");
    for (size_t i = 0; i < loop.names.size(); ++i) scope[loop.names[i]] = {member[i]};
  }

  Flow Loop(const Statement& loop) {
    const Value iterated = Evaluate(*loop.expression);
    std::vector<Json> members = Members(iterated, "a loop");
    if (loop.condition) {
      std::vector<Json> kept;
      for (Json& member : members) {
        scopes_.emplace_back();
        Bind(loop, member);
        if (IsTrue(Evaluate(*loop.condition))) kept.push_back(std::move(member));
        scopes_.pop_back();
      }
      members = std::move(kept);
    }
    if (members.empty()) return Execute(loop.otherwise);
    const size_t size = members.size();
    for (size_t i = 0; i < size; ++i) {
      scopes_.emplace_back();  // what an iteration sets, the next one does not see
      Bind(loop, members[i]);
      Json about = {{"index", i + 1},  {"index0", i},           {"revindex", size - i}, {"revindex0", size - i - 1},
                    {"first", i == 0}, {"last", i + 1 == size}, {"length", size}};
      if (i > 0) about["previtem"] = members[i - 1];
      if (i + 1 < size) about["nextitem"] = members[i + 1];
      scopes_.back()["loop"] = {std::move(about)};
      const Flow flow = Execute(loop.body);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  Value Lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->find(name);
      if (found != scope->end()) return found->second;
    }
    return Value::Undefined();
  }

  Value Optional(const std::unique_ptr<Expression>& expression) { return expression ? Evaluate(*expression) : Value::Undefined(); }

  Value Evaluate(const Expression& node) {
    using Kind = Expression::Kind;
    Count();
    switch (node.kind) {
      case Kind::kLiteral:
        return {node.literal};
      case Kind::kName:
        return Lookup(node.name);
      case Kind::kList: {
        Json list = Json::array();
        for (const auto& member : node.args) list.push_back(Evaluate(*member).json);
        return {list};
      }
      case Kind::kDict: {
        Json dict = Json::object();
        for (size_t i = 0; i < node.args.size(); i += 2) dict[AsString(Evaluate(*node.args[i]), "a key")] = Evaluate(*node.args[i + 1]).json;
        return {dict};
      }
      case Kind::kAttribute:
        return Attribute(Evaluate(*node.args[0]), node.name);
      case Kind::kItem:
        return Item(Evaluate(*node.args[0]), Evaluate(*node.args[1]));
      case Kind::kSlice:
        return Slice(Evaluate(*node.args[0]), Optional(node.args[1]), Optional(node.args[2]), Optional(node.args[3]));
      case Kind::kCall:
        return Call(node);
      case Kind::kFilter:
        return ApplyFilter(node.name, Evaluate(*node.args[0]), Arguments(node), NamedArguments(node));
      case Kind::kTest:
        return {ApplyTest(node.name, Evaluate(*node.args[0]), Arguments(node))};
      case Kind::kUnary:
        return Unary(node);
      case Kind::kBinary:
        return EvaluateBinary(node);
      case Kind::kConditional:
        return IsTrue(Evaluate(*node.args[1])) ? Evaluate(*node.args[0]) : Optional(node.args[2]);
    }
    return Value::Undefined();
  }

  Value Unary(const Expression& node) {
    const Value operand = Evaluate(*node.args[0]);
    if (node.name == "not") return {!IsTrue(operand)};
    return Binary(node.name, {0}, operand);
  }

  Value EvaluateBinary(const Expression& node) {
    const Value left = Evaluate(*node.args[0]);
    if (node.name == "and") return IsTrue(left) ? Evaluate(*node.args[1]) : left;
    if (node.name == "or") return IsTrue(left) ? left : Evaluate(*node.args[1]);
    return Binary(node.name, left, Evaluate(*node.args[1]));
  }

  std::vector<Value> Arguments(const Expression& node) {
    std::vector<Value> values;
    for (size_t i = 1; i < node.args.size(); ++i) values.push_back(Evaluate(*node.args[i]));
    return values;
  }

  std::vector<std::pair<std::string, Value>> NamedArguments(const Expression& node) {
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& [name, argument] : node.kwargs) values.emplace_back(name, Evaluate(*argument));
    return values;
  }

  Value Call(const Expression& node) {
    const Expression& callee = *node.args[0];
    const std::vector<Value> args = Arguments(node);
    if (callee.kind == Expression::Kind::kAttribute) return CallMethod(Evaluate(*callee.args[0]), callee.name, args);
    const std::string name = callee.kind == Expression::Kind::kName ? callee.name : "(an expression)";
    if (name == "raise_exception") throw Error::Usage("the chat template refuses these messages: " + (args.empty() ? "" : ToText(args[0])));
    if (name == "namespace") {
      Json attributes = Json::object();
      for (const auto& [key, value] : NamedArguments(node)) attributes[key] = value.json;
      return Value::Namespace(std::move(attributes));
    }
    if (name == "range" && !args.empty() && args.size() <= 2) {
      const int64_t first = args.size() == 2 ? AsInteger(args[0], name) : 0, last = AsInteger(args.back(), name);
      Json list = Json::array();
      for (int64_t i = first; i < last; ++i) {
        Count();
        list.push_back(i);
      }
      return {list};
    }
    FailRender("the function '" + name + "' is not supported");
  }

  std::vector<Scope> scopes_;
  std::string out_;
  int64_t steps_ = 0;
};

}  // namespace

std::string Render(const std::vector<Statement>& program, const Json& variables) { return Renderer(variables).Run(program); }

}  // namespace april::text::jinja
