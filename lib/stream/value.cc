#include "stream/value.h"

#include <limits>

#include "base/error.h"

namespace april::stream {
namespace {

const char* TypeName(const Value::Held& held) {
  static constexpr const char* kNames[] = {"nil", "bool", "int", "int", "float", "float", "str", "bin", "array", "map"};
  static_assert(std::size(kNames) == std::variant_size_v<Value::Held>);
  return kNames[held.index()];
}

[[noreturn]] void WrongType(const char* expected, const Value::Held& held) {
  throw Error::Data(std::string("expected ") + expected + ", found " + TypeName(held));
}

template <typename T>
const T& As(const char* expected, const Value::Held& held) {
  const T* found = std::get_if<T>(&held);
  if (!found) WrongType(expected, held);
  return *found;
}

}  // namespace

Value::Value(int64_t value) {
  if (value >= 0) {
    held_ = static_cast<uint64_t>(value);
  } else {
    held_ = value;
  }
}

bool Value::AsBool() const { return As<bool>("bool", held_); }

int64_t Value::AsInt() const {
  if (const auto* negative = std::get_if<int64_t>(&held_)) return *negative;
  const uint64_t value = As<uint64_t>("int", held_);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw Error::Data("expected an int below 2^63, found " + std::to_string(value));
  }
  return static_cast<int64_t>(value);
}

uint64_t Value::AsUint() const {
  if (const auto* value = std::get_if<uint64_t>(&held_)) return *value;
  const int64_t value = As<int64_t>("uint", held_);
  if (value < 0) throw Error::Data("expected uint, found " + std::to_string(value));
  return static_cast<uint64_t>(value);
}

double Value::AsDouble() const {
  if (const auto* value = std::get_if<double>(&held_)) return *value;
  if (const auto* value = std::get_if<float>(&held_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<uint64_t>(&held_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<int64_t>(&held_)) return static_cast<double>(*value);
  WrongType("number", held_);
}

const std::string& Value::AsString() const { return As<std::string>("str", held_); }
const std::string& Value::AsBin() const { return As<Bin>("bin", held_).bytes; }
const Array& Value::AsArray() const { return As<Array>("array", held_); }
const Map& Value::AsMap() const { return As<Map>("map", held_); }

const Value* Find(const Map& map, std::string_view key) {
  for (const auto& [name, value] : map) {
    if (name == key) return &value;
  }
  return nullptr;
}

Value* Find(Map& map, std::string_view key) { return const_cast<Value*>(Find(static_cast<const Map&>(map), key)); }

void Set(Map& map, std::string_view key, Value value) {
  if (Value* found = Find(map, key)) {
    *found = std::move(value);
  } else {
    map.emplace_back(std::string(key), std::move(value));
  }
}

}  // namespace april::stream
