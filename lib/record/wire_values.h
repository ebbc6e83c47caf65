// How members are put on the wire, by their C++ type: the part of the codec that knows no keys.
#pragma once

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "record/fields.h"

namespace april::record::wire {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

inline constexpr const char* kStatusNames[] = {"queued", "partial", "waiting", "complete", "failed"};
inline constexpr const char* kFinishNames[] = {"none", "stop", "length", "abort", "error"};

template <typename Enum, size_t kSize>
Enum ParseName(const std::string& text, const char* const (&names)[kSize]) {
  std::string all;
  for (size_t i = 0; i < kSize; ++i) {
    if (text == names[i]) return static_cast<Enum>(i);
    all += std::string(i ? ", " : "") + names[i];
  }
  throw Error::Data("\"" + text + "\" is none of " + all);
}

template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsBin = std::is_same_v<T, std::vector<uint32_t>> || std::is_same_v<T, std::vector<float>>;

using Parts = std::vector<std::pair<std::string, double>>;
using Outcomes = std::vector<std::pair<uint64_t, std::string>>;
using PerToken = std::map<std::string, PerTokenArray>;

template <typename T>
Value ToValue(const T& member);

inline Value PartsToValue(const Parts& parts) {
  Map map;
  for (const auto& [name, value] : parts) map.emplace_back(name, value);
  return map;
}

inline Value OutcomesToValue(const Outcomes& outcomes) {
  Array array;
  array.reserve(outcomes.size());
  for (const auto& [uid, outcome] : outcomes) array.push_back(Array{uid, outcome});
  return array;
}

inline Value PerTokenToValue(const PerToken& arrays) {
  Map map;
  for (const auto& [name, array] : arrays) map.emplace_back(name, ToMap(array));
  return map;
}

template <typename T>
Value ToValue(const T& member) {
  if constexpr (std::is_same_v<T, Status>) {
    return kStatusNames[static_cast<size_t>(member)];
  } else if constexpr (std::is_same_v<T, Finish>) {
    return kFinishNames[static_cast<size_t>(member)];
  } else if constexpr (kIsOptional<T>) {
    return member ? ToValue(*member) : Value();
  } else if constexpr (kIsBin<T>) {
    return Bin{std::string(reinterpret_cast<const char*>(member.data()), member.size() * sizeof member[0])};
  } else if constexpr (std::is_same_v<T, Parts>) {
    return PartsToValue(member);
  } else if constexpr (std::is_same_v<T, Outcomes>) {
    return OutcomesToValue(member);
  } else if constexpr (std::is_same_v<T, PerToken>) {
    return PerTokenToValue(member);
  } else if constexpr (std::is_same_v<T, Map>) {
    return member;
  } else if constexpr (kIsVector<T>) {
    Array array;
    array.reserve(member.size());
    for (const auto& element : member) array.push_back(ToValue(element));
    return array;
  } else if constexpr (std::is_constructible_v<Value, T>) {
    return Value(member);
  } else {
    return ToMap(member);
  }
}

template <typename T>
T FromValue(Value&& value);

inline Parts ValueToParts(const Map& map) {
  Parts parts;
  for (const auto& [name, value] : map) parts.emplace_back(name, value.AsDouble());
  return parts;
}

inline Outcomes ValueToOutcomes(const Array& array) {
  Outcomes outcomes;
  outcomes.reserve(array.size());
  for (const Value& element : array) {
    const Array& pair = element.AsArray();
    if (pair.size() != 2) throw Error::Data("an outcome of " + std::to_string(pair.size()) + " values; it is [uid, outcome]");
    outcomes.emplace_back(pair[0].AsUint(), pair[1].AsString());
  }
  return outcomes;
}

template <typename T>
std::vector<T> ValueToBin(const std::string& bytes) {
  if (bytes.size() % sizeof(T) != 0) throw Error::Data("a bin of " + std::to_string(bytes.size()) + " bytes; its elements have 4");
  std::vector<T> elements(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

inline PerToken ValueToPerToken(Map&& map) {
  PerToken arrays;
  for (auto& [name, value] : map) {
    static_cast<void>(value.AsMap());
    if (!arrays.emplace(name, FromMap<PerTokenArray>(std::move(std::get<Map>(value.held())))).second)
      throw Error::Data("array \"" + name + "\" twice");
  }
  return arrays;
}

inline Map TakeMap(Value&& value) {
  static_cast<void>(value.AsMap());
  return std::move(std::get<Map>(value.held()));
}

template <typename T>
T FromValue(Value&& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.AsBool();
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    const uint64_t wide = value.AsUint();
    if (wide > 0xffffffff) throw Error::Data("expected a uint below 2^32, found " + std::to_string(wide));
    return static_cast<uint32_t>(wide);
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return value.AsUint();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return value.AsInt();
  } else if constexpr (std::is_same_v<T, double>) {
    return value.AsDouble();
  } else if constexpr (std::is_same_v<T, std::string>) {
    static_cast<void>(value.AsString());
    return std::move(std::get<std::string>(value.held()));
  } else if constexpr (std::is_same_v<T, Status>) {
    return ParseName<Status>(value.AsString(), kStatusNames);
  } else if constexpr (std::is_same_v<T, Finish>) {
    return ParseName<Finish>(value.AsString(), kFinishNames);
  } else if constexpr (kIsOptional<T>) {
    return FromValue<typename T::value_type>(std::move(value));
  } else if constexpr (kIsBin<T>) {
    return ValueToBin<typename T::value_type>(value.AsBin());
  } else if constexpr (std::is_same_v<T, Parts>) {
    return ValueToParts(value.AsMap());
  } else if constexpr (std::is_same_v<T, Outcomes>) {
    return ValueToOutcomes(value.AsArray());
  } else if constexpr (std::is_same_v<T, PerToken>) {
    return ValueToPerToken(TakeMap(std::move(value)));
  } else if constexpr (std::is_same_v<T, Map>) {
    return TakeMap(std::move(value));
  } else if constexpr (kIsVector<T>) {
    static_cast<void>(value.AsArray());
    T elements;
    for (Value& element : std::get<Array>(value.held())) elements.push_back(FromValue<typename T::value_type>(std::move(element)));
    return elements;
  } else {
    const bool has_value = !std::is_same_v<T, Reward> || Find(value.AsMap(), "value");
    T result = FromMap<T>(TakeMap(std::move(value)));
    if constexpr (std::is_same_v<T, Reward>) {
      if (result.status == "ok" && !has_value) throw Error::Data("status ok without a value");
      if (result.status != "ok") result.value = 0;
    }
    return result;
  }
}

}  // namespace april::record::wire
