#include "rollout/sim_json.h"

#include <cmath>

#include "base/error.h"

namespace april::rollout {
namespace {

std::string Shown(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

}  // namespace

double ToNumber(const Json& json, const std::string& what) {
  if (!json.is_number() || !std::isfinite(json.get<double>())) throw Error::Usage(what + " is " + Shown(json) + ", expected a number");
  return json.get<double>();
}

int64_t ToInteger(const Json& json, const std::string& what) {
  if (!json.is_number_integer() || (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX)) {
    throw Error::Usage(what + " is " + Shown(json) + ", expected a whole number");
  }
  return json.get<int64_t>();
}

JsonFields::JsonFields(const Json& json, std::string name) : json_(json), name_(std::move(name)) {
  if (!json_.is_object()) throw Error::Usage((name_.empty() ? "the profile" : name_) + " is " + Shown(json_) + ", expected an object");
}

const Json& JsonFields::At(const char* key) {
  read_.insert(key);
  const auto found = json_.find(key);
  if (found == json_.end()) throw Error::Usage(PathOf(key) + " is missing");
  return *found;
}

std::string JsonFields::Text(const char* key) {
  const Json& json = At(key);
  if (!json.is_string()) throw Error::Usage(PathOf(key) + " is " + Shown(json) + ", expected text");
  return json.get<std::string>();
}

double JsonFields::Number(const char* key) { return ToNumber(At(key), PathOf(key)); }

int64_t JsonFields::Integer(const char* key) { return ToInteger(At(key), PathOf(key)); }

std::vector<double> JsonFields::Numbers(const char* key) {
  const Json& json = At(key);
  if (!json.is_array()) throw Error::Usage(PathOf(key) + " is " + Shown(json) + ", expected a list of numbers");
  std::vector<double> numbers;
  for (size_t i = 0; i < json.size(); ++i) numbers.push_back(ToNumber(json[i], PathOf(key) + "[" + std::to_string(i) + "]"));
  return numbers;
}

std::vector<int64_t> JsonFields::Integers(const char* key) {
  const Json& json = At(key);
  if (!json.is_array()) throw Error::Usage(PathOf(key) + " is " + Shown(json) + ", expected a list of whole numbers");
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < json.size(); ++i) numbers.push_back(ToInteger(json[i], PathOf(key) + "[" + std::to_string(i) + "]"));
  return numbers;
}

void JsonFields::RefuseOthers() const {
  for (const auto& [key, value] : json_.items()) {
    if (!read_.contains(key))
      throw Error::Usage(PathOf(key) + " is no key of a profile", "formats/profiles.md lists them; explanations belong into source");
  }
}

}  // namespace april::rollout
