// Reads the keys of one map, naming the map and the key in every error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "stream/value.h"

namespace april::buffer {

class MapFields {
 public:
  /// `subject` names the map in messages: "journal entry", "hub request". Both arguments must outlive the object.
  MapFields(const stream::Map& map, std::string_view subject) : map_(map), subject_(subject) {}

  bool Has(std::string_view key) const {
    const stream::Value* value = stream::Find(map_, key);
    return value && !value->is_nil();
  }
  uint64_t Uint(std::string_view key) const {
    return Get(key, [](const stream::Value& value) { return value.AsUint(); });
  }
  int64_t Int(std::string_view key) const {
    return Get(key, [](const stream::Value& value) { return value.AsInt(); });
  }
  double Double(std::string_view key) const {
    return Get(key, [](const stream::Value& value) { return value.AsDouble(); });
  }
  bool Bool(std::string_view key) const {
    return Get(key, [](const stream::Value& value) { return value.AsBool(); });
  }
  const std::string& Text(std::string_view key) const {
    return Get(key, [](const stream::Value& value) -> const std::string& { return value.AsString(); });
  }
  const std::string& Bin(std::string_view key) const {
    return Get(key, [](const stream::Value& value) -> const std::string& { return value.AsBin(); });
  }
  const stream::Array& Array(std::string_view key) const {
    return Get(key, [](const stream::Value& value) -> const stream::Array& { return value.AsArray(); });
  }
  const stream::Map& Map(std::string_view key) const {
    return Get(key, [](const stream::Value& value) -> const stream::Map& { return value.AsMap(); });
  }
  std::optional<uint64_t> MaybeUint(std::string_view key) const { return Has(key) ? std::optional(Uint(key)) : std::nullopt; }
  std::optional<std::string> MaybeText(std::string_view key) const { return Has(key) ? std::optional(Text(key)) : std::nullopt; }

 private:
  template <typename Read>
  auto Get(std::string_view key, Read read) const -> decltype(read(std::declval<const stream::Value&>())) {
    const stream::Value* value = stream::Find(map_, key);
    if (!value) throw Error::Data(std::string(subject_) + ": key \"" + std::string(key) + "\" is missing");
    try {
      return read(*value);
    } catch (const Error& error) {
      throw error.Within(std::string(subject_) + ": key \"" + std::string(key) + "\"");
    }
  }

  const stream::Map& map_;
  std::string_view subject_;
};

inline stream::Value UidArray(const std::vector<uint64_t>& uids) { return stream::Array(uids.begin(), uids.end()); }

inline std::vector<uint64_t> ParseUids(const stream::Array& array) {
  std::vector<uint64_t> uids;
  uids.reserve(array.size());
  for (const stream::Value& uid : array) uids.push_back(uid.AsUint());
  return uids;
}

/// nil for nullopt.
template <typename T>
stream::Value OrNil(const std::optional<T>& value) {
  return value ? stream::Value(*value) : stream::Value();
}

}  // namespace april::buffer
