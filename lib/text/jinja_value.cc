#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"

namespace april::text::jinja {
namespace {

constexpr size_t kLongestText = 64u << 20;

std::vector<Json> Characters(const std::string& text) {
  std::vector<Json> characters;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    NextChar(text, &offset);
    characters.emplace_back(text.substr(start, offset - start));
  }
  return characters;
}

Value Arithmetic(const std::string& op, const Json& left, const Json& right) {
  const bool whole = !left.is_number_float() && !right.is_number_float();
  if (op == "/" || !whole) {
    const auto a = left.get<double>(), b = right.get<double>();
    if (op == "+") return {a + b};
    if (op == "-") return {a - b};
    if (op == "*") return {a * b};
    if (b == 0) FailRender("division by zero");
    if (op == "/") return {a / b};
    if (op == "//") return {std::floor(a / b)};
    return {a - b * std::floor(a / b)};
  }
  const auto a = left.get<int64_t>(), b = right.get<int64_t>();
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else {
    if (b == 0) FailRender("division by zero");
    if (b == -1) return op == "//" ? Arithmetic("-", 0, left) : Value{0};
    const int64_t floor = a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);  // Python rounds down
    result = op == "//" ? floor : a - b * floor;
  }
  if (overflow) FailRender("a whole number is too large");
  return {result};
}

bool Less(const Json& left, const Json& right) {
  if (!(left.is_number() && right.is_number()) && !(left.is_string() && right.is_string())) {
    FailRender("cannot order " + std::string(left.type_name()) + " and " + right.type_name());
  }
  return left < right;
}

bool Contains(const Value& container, const Value& element) {
  if (container.json.is_string()) return container.json.get_ref<const std::string&>().find(AsString(element, "'in' a string")) != std::string::npos;
  const std::vector<Json> members = Members(container, "'in'");
  return std::find(members.begin(), members.end(), element.json) != members.end();
}

}  // namespace

void FailRender(const std::string& what) { throw Error::Incompatible("chat template: " + what); }

bool IsTrue(const Value& value) {
  if (!value.defined) return false;
  if (value.space) return true;
  const Json& json = value.json;
  if (json.is_null()) return false;
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number()) return json.get<double>() != 0;
  if (json.is_string()) return !json.get_ref<const std::string&>().empty();
  return !json.empty();
}

const char* TypeName(const Value& value) { return !value.defined ? "undefined" : value.space ? "namespace" : value.json.type_name(); }

std::string ToText(const Value& value) {
  if (!value.defined) return {};
  const Json& json = value.json;
  if (json.is_string()) return json.get<std::string>();
  if (json.is_boolean()) return json.get<bool>() ? "True" : "False";
  if (json.is_null() && !value.space) return "None";
  if (json.is_number_integer()) return json.dump();
  FailRender("printing a value of type " + std::string(TypeName(value)) + " is not supported");
}

const std::string& AsString(const Value& value, const std::string& what) {
  if (!value.defined || !value.json.is_string()) FailRender(what + " needs a string, found " + TypeName(value));
  return value.json.get_ref<const std::string&>();
}

int64_t AsInteger(const Value& value, const std::string& what) {
  if (!value.defined || !value.json.is_number_integer()) FailRender(what + " needs a whole number, found " + TypeName(value));
  return value.json.get<int64_t>();
}

std::string ToPythonJson(const Json& json, int indent, int level) {
  if (!json.is_structured() || json.empty()) return json.dump();
  const std::string line = indent < 0 ? "" : "\n" + std::string(static_cast<size_t>(indent * (level + 1)), ' ');
  std::string text;
  for (const auto& [key, member] : json.items()) {
    if (!text.empty()) text += indent < 0 ? ", " : ",";
    text += line;
    if (json.is_object()) text += Json(key).dump() + ": ";
    text += ToPythonJson(member, indent, level + 1);
  }
  if (indent >= 0) text += "\n" + std::string(static_cast<size_t>(indent * level), ' ');
  return json.is_object() ? "{" + text + "}" : "[" + text + "]";
}

std::vector<Json> Members(const Value& value, const std::string& what) {
  if (!value.defined) return {};
  const Json& json = value.json;
  if (json.is_array()) return {json.begin(), json.end()};
  if (json.is_string()) return Characters(json.get_ref<const std::string&>());
  if (!json.is_object()) FailRender(what + " needs a list, found " + TypeName(value));
  std::vector<Json> keys;
  for (const auto& entry : json.items()) keys.emplace_back(entry.key());
  return keys;
}

Value Attribute(const Value& value, const std::string& name) {
  if (!value.defined) FailRender("'" + name + "' of something undefined");
  const Json& object = value.space ? *value.space : value.json;
  if (!object.is_object()) return Value::Undefined();
  const auto found = object.find(name);
  return found == object.end() ? Value::Undefined() : Value{*found};
}

Value Item(const Value& value, const Value& index) {
  if (!value.defined) FailRender("an item of something undefined");
  if (index.defined && index.json.is_string()) return Attribute(value, index.json.get<std::string>());
  if (!value.json.is_array() && !value.json.is_string()) FailRender("an item by number of a value of type " + std::string(TypeName(value)));
  const std::vector<Json> members = Members(value, "an item");
  int64_t position = AsInteger(index, "an index");
  const auto size = static_cast<int64_t>(members.size());
  if (position < 0) position += size;
  return position >= 0 && position < size ? Value{members[static_cast<size_t>(position)]} : Value::Undefined();
}

Value Slice(const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (!value.defined || !(value.json.is_array() || value.json.is_string())) FailRender("a slice of a value of type " + std::string(TypeName(value)));
  const std::vector<Json> members = Members(value, "a slice");
  const auto size = static_cast<int64_t>(members.size());
  const int64_t stride = step.defined ? AsInteger(step, "a slice") : 1;
  if (stride == 0) FailRender("a slice with step 0");
  const int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? size : size - 1;
  const auto bound = [&](const Value& given, int64_t otherwise) {
    if (!given.defined) return otherwise;
    const int64_t position = AsInteger(given, "a slice");
    return std::clamp(position < 0 ? position + size : position, lowest, highest);
  };
  const int64_t first = bound(start, stride > 0 ? 0 : size - 1), last = bound(stop, stride > 0 ? size : -1);
  Json list = Json::array();
  std::string text;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) {
    const Json& member = members[static_cast<size_t>(i)];
    if (value.json.is_string()) {
      text += member.get_ref<const std::string&>();
    } else {
      list.push_back(member);
    }
    if (std::abs(stride) > size) break;
  }
  return value.json.is_string() ? Value{text} : Value{list};
}

Value Binary(const std::string& op, const Value& left, const Value& right) {
  if (op == "~") return {ToText(left) + ToText(right)};
  if (op == "==" || op == "!=") {
    const bool equal = left.defined == right.defined && left.space == right.space && left.json == right.json;
    return {equal == (op == "==")};
  }
  if (op == "in" || op == "not in") return {Contains(right, left) == (op == "in")};
  if (!left.defined || !right.defined) FailRender("'" + op + "' with something undefined");
  if (op == "<") return {Less(left.json, right.json)};
  if (op == ">") return {Less(right.json, left.json)};
  if (op == "<=") return {!Less(right.json, left.json)};
  if (op == ">=") return {!Less(left.json, right.json)};
  if (left.json.is_number() && right.json.is_number()) return Arithmetic(op, left.json, right.json);
  if (op == "+" && left.json.is_string() && right.json.is_string()) {
    if (left.json.get_ref<const std::string&>().size() + right.json.get_ref<const std::string&>().size() > kLongestText) {
      FailRender("a string outgrows 64 MiB");
    }
    return {left.json.get_ref<const std::string&>() + right.json.get_ref<const std::string&>()};
  }
  if (op == "+" && left.json.is_array() && right.json.is_array()) {
    Json list = left.json;
    list.insert(list.end(), right.json.begin(), right.json.end());
    return {list};
  }
  FailRender("'" + op + "' of " + TypeName(left) + " and " + TypeName(right));
}

}  // namespace april::text::jinja
