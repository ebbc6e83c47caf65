// Values while a template is rendered, and what can be done with them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace april::text::jinja {

/// JSON, or undefined, or a namespace (the one thing that a template can change from within a loop).
struct Value {
  Json json;
  bool defined = true;
  std::shared_ptr<Json> space;  ///< of a namespace: its attributes

  Value() = default;
  Value(Json value) : json(std::move(value)) {}
  static Value Undefined() {
    Value value;
    value.defined = false;
    return value;
  }
  static Value Namespace(Json attributes) {
    Value value;
    value.space = std::make_shared<Json>(std::move(attributes));
    return value;
  }
};

[[noreturn]] void FailRender(const std::string& what);

bool IsTrue(const Value& value);
const char* TypeName(const Value& value);
/// What {{ value }} prints. Undefined prints nothing.
std::string ToText(const Value& value);
/// The string, or fails: `what` says what needed one.
const std::string& AsString(const Value& value, const std::string& what);
int64_t AsInteger(const Value& value, const std::string& what);
/// As Python's json.dumps writes it, without escaping what is not ASCII; indent < 0: in one line.
std::string ToPythonJson(const Json& json, int indent, int level = 0);

/// Members of a list, characters of a string, keys of a mapping. Fails on anything else.
std::vector<Json> Members(const Value& value, const std::string& what);
Value Attribute(const Value& value, const std::string& name);
Value Item(const Value& value, const Value& index);
Value Slice(const Value& value, const Value& start, const Value& stop, const Value& step);
/// Every operator but "and" and "or".
Value Binary(const std::string& op, const Value& left, const Value& right);

Value CallMethod(const Value& object, const std::string& name, const std::vector<Value>& args);
Value ApplyFilter(const std::string& name, const Value& value, const std::vector<Value>& args,
                  const std::vector<std::pair<std::string, Value>>& kwargs);
bool ApplyTest(const std::string& name, const Value& value, const std::vector<Value>& args);

}  // namespace april::text::jinja
