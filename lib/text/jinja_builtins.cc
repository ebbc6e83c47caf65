// Methods, filters and tests by name.
#include <algorithm>

#include "base/utf8.h"
#include "text/jinja_value.h"

namespace april::text::jinja {
namespace {

using Args = std::vector<Value>;

// What Python's str.strip takes for white space: Unicode's, and the four separators U+001C to U+001F.
bool IsPythonSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Strips characters of `set` (absent: white space) from the front and the back.
std::string Strip(const std::string& text, const std::u32string* set, bool front, bool back) {
  size_t begin = 0, end = 0;
  bool started = !front;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const char32_t c = NextChar(text, &offset);
    const bool strip = set == nullptr ? IsPythonSpace(c) : set->find(c) != std::u32string::npos;
    if (!started && strip) begin = offset;
    if (!strip) started = true;
    if (!strip || !back) end = offset;
    if (!started && !strip) begin = start;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string();
}

std::string StripBy(const Value& object, const Args& args, bool front, bool back) {
  const std::string& text = AsString(object, "strip");
  if (args.empty()) return Strip(text, nullptr, front, back);
  std::u32string set;
  const std::string& characters = AsString(args[0], "strip");
  for (size_t offset = 0; offset < characters.size();) set.push_back(NextChar(characters, &offset));
  return Strip(text, &set, front, back);
}

Json Split(const std::string& text, const Args& args) {
  Json parts = Json::array();
  if (args.empty()) {
    std::string word;
    for (size_t offset = 0; offset < text.size();) {
      const size_t start = offset;
      if (IsPythonSpace(NextChar(text, &offset))) {
        if (!word.empty()) parts.push_back(std::exchange(word, {}));
      } else {
        word.append(text, start, offset - start);
      }
    }
    if (!word.empty()) parts.push_back(word);
    return parts;
  }
  const std::string& separator = AsString(args[0], "split");
  if (separator.empty()) FailRender("split by an empty string");
  int64_t left = args.size() > 1 ? AsInteger(args[1], "split") : -1;
  size_t start = 0;
  for (size_t found; left != 0 && (found = text.find(separator, start)) != std::string::npos; --left) {
    parts.push_back(text.substr(start, found - start));
    start = found + separator.size();
  }
  parts.push_back(text.substr(start));
  return parts;
}

std::string Replace(std::string text, const Args& args) {
  if (args.size() != 2) FailRender("replace needs what and by what");
  const std::string &what = AsString(args[0], "replace"), &with = AsString(args[1], "replace");
  if (what.empty()) FailRender("replace of an empty string is not supported");
  std::string out;
  size_t start = 0;
  for (size_t found; (found = text.find(what, start)) != std::string::npos; start = found + what.size()) {
    out.append(text, start, found - start);
    out += with;
  }
  return out.append(text, start);
}

/// ASCII letters alone: what templates change the case of are names.
std::string ChangeCase(std::string text, bool upper) {
  for (char& c : text) {
    if (upper ? (c >= 'a' && c <= 'z') : (c >= 'A' && c <= 'Z')) c = static_cast<char>(c ^ 0x20);
    if (static_cast<unsigned char>(c) >= 0x80) FailRender("upper and lower of letters outside ASCII are not supported");
  }
  return text;
}

std::string Join(const Value& value, const Args& args) {
  const std::string separator = args.empty() ? "" : AsString(args[0], "join");
  std::string text;
  bool first = true;
  for (const Json& member : Members(value, "join")) {
    if (!std::exchange(first, false)) text += separator;
    text += ToText({member});
  }
  return text;
}

/// select, reject: members that a test (absent: their truth) accepts or does not; selectattr, rejectattr: by the attribute named first.
Json Select(const std::string& name, const Value& value, const Args& args, bool by_attribute) {
  const size_t first = by_attribute ? 1 : 0;
  if (args.size() < first) FailRender(name + " needs an attribute's name");
  Json kept = Json::array();
  for (Json& member : Members(value, name)) {
    const Value looked_at = by_attribute ? Item({member}, args[0]) : Value{member};
    const bool passes = args.size() == first
                            ? IsTrue(looked_at)
                            : ApplyTest(AsString(args[first], name), looked_at, Args(args.begin() + static_cast<ptrdiff_t>(first) + 1, args.end()));
    if (passes == name.starts_with("select")) kept.push_back(std::move(member));
  }
  return kept;
}

/// map(attribute='name'), map('filter', arguments…).
Json Map(const Value& value, const Args& args, const std::vector<std::pair<std::string, Value>>& kwargs) {
  Json mapped = Json::array();
  for (const Json& member : Members(value, "map")) {
    Value result;
    if (args.empty() && kwargs.size() == 1 && kwargs[0].first == "attribute") {
      result = Item({member}, kwargs[0].second);
    } else if (!args.empty() && kwargs.empty()) {
      result = ApplyFilter(AsString(args[0], "map"), {member}, Args(args.begin() + 1, args.end()), {});
    } else {
      FailRender("map needs attribute=…, or a filter's name");
    }
    if (!result.defined || result.space) FailRender("map to a value of type " + std::string(TypeName(result)) + " is not supported");
    mapped.push_back(result.json);
  }
  return mapped;
}

Json Pairs(const Value& value) {
  if (!value.defined || !value.json.is_object()) FailRender("items needs a mapping, found " + std::string(TypeName(value)));
  Json pairs = Json::array();
  for (const auto& [key, member] : value.json.items()) pairs.push_back(Json::array({key, member}));
  return pairs;
}

}  // namespace

Value CallMethod(const Value& object, const std::string& name, const Args& args) {
  if (object.defined && object.json.is_string()) {
    const std::string& text = object.json.get_ref<const std::string&>();
    if (name == "strip") return {StripBy(object, args, true, true)};
    if (name == "lstrip") return {StripBy(object, args, true, false)};
    if (name == "rstrip") return {StripBy(object, args, false, true)};
    if (name == "split") return {Split(text, args)};
    if (name == "replace") return {Replace(text, args)};
    if (name == "upper" || name == "lower") return {ChangeCase(text, name == "upper")};
    if (name == "startswith" && args.size() == 1) return {text.starts_with(AsString(args[0], name))};
    if (name == "endswith" && args.size() == 1) return {text.ends_with(AsString(args[0], name))};
  } else if (object.defined && object.json.is_object()) {
    if (name == "items") return {Pairs(object)};
    if (name == "keys") return {Json(Members(object, name))};
    if (name == "get" && !args.empty()) {
      const Value found = Item(object, args[0]);
      return found.defined ? found : args.size() > 1 ? args[1] : Value{nullptr};
    }
  }
  FailRender("the method '" + name + "' of a value of type " + TypeName(object) + " is not supported");
}

Value ApplyFilter(const std::string& name, const Value& value, const Args& args, const std::vector<std::pair<std::string, Value>>& kwargs) {
  if (name == "default" || name == "d") {
    const bool also_false = args.size() > 1 && IsTrue(args[1]);
    const bool use = !value.defined || (also_false && !IsTrue(value));
    return use ? (args.empty() ? Value{""} : args[0]) : value;
  }
  if (name == "tojson") {
    if (!value.defined || value.space) FailRender("tojson of a value of type " + std::string(TypeName(value)));
    int64_t indent = -1;
    for (const auto& [key, given] : kwargs) {
      if (key == "indent" && !given.json.is_null()) indent = AsInteger(given, "tojson");
      if (key != "indent" && key != "ensure_ascii") FailRender("tojson with " + key + " is not supported");
    }
    return {ToPythonJson(value.json, static_cast<int>(std::clamp<int64_t>(indent, -1, 16)))};
  }
  if (name == "map") return {Map(value, args, kwargs)};
  if (!kwargs.empty()) FailRender("the filter '" + name + "' with named arguments is not supported");
  if (name == "select" || name == "reject") return {Select(name, value, args, false)};
  if (name == "selectattr" || name == "rejectattr") return {Select(name, value, args, true)};
  if (name == "trim") return {StripBy(value, args, true, true)};
  if (name == "length" || name == "count") return {static_cast<int64_t>(Members(value, name).size())};
  if (name == "string") return {ToText(value)};
  if (name == "upper" || name == "lower") return {ChangeCase(AsString(value, name), name == "upper")};
  if (name == "replace") return {Replace(AsString(value, name), args)};
  if (name == "join") return {Join(value, args)};
  if (name == "items") return {Pairs(value)};
  if (name == "list") return {Json(Members(value, name))};
  if (name == "first" || name == "last") return Item({Json(Members(value, name))}, {name == "first" ? 0 : -1});
  FailRender("the filter '" + name + "' is not supported");
}

bool ApplyTest(const std::string& name, const Value& value, const Args& args) {
  if (name == "defined") return value.defined;
  if (name == "undefined") return !value.defined;
  const Json& json = value.json;
  if (name == "none") return value.defined && !value.space && json.is_null();
  if (name == "true") return json.is_boolean() && json.get<bool>();
  if (name == "false") return json.is_boolean() && !json.get<bool>();
  if (name == "boolean") return json.is_boolean();
  if (name == "string") return json.is_string();
  if (name == "number") return json.is_number() || json.is_boolean();
  if (name == "integer") return json.is_number_integer();
  if (name == "mapping") return json.is_object();
  if (name == "sequence" || name == "iterable") return json.is_string() || json.is_structured() || (name == "iterable" && !value.defined);
  if (args.size() == 1) {
    if (name == "equalto" || name == "eq") return IsTrue(Binary("==", value, args[0]));
    if (name == "divisibleby") return IsTrue(Binary("==", Binary("%", value, args[0]), {0}));
  }
  if (name == "odd" || name == "even") return (AsInteger(value, name) % 2 == 0) == (name == "even");
  FailRender("the test '" + name + "' is not supported");
}

}  // namespace april::text::jinja
