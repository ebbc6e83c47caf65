// How the key table drives the codec: each key names a member, and the member's C++ type says how it is put on the wire.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "record/keys.h"
#include "record/records.h"

namespace april::record {

template <typename T>
struct Field {
  KeyInfo info;
  stream::Value (*get)(const T&);    ///< nil: leave the key out
  void (*set)(T&, stream::Value&&);  ///< throws Data on another type or value
};

template <typename T>
struct Table {
  const char* map;  ///< name of the map in the document
  std::vector<Field<T>> fields;
};

/// Specialised in fields.cc for each struct that has a map of its own.
template <typename T>
Table<T> MakeTable();

template <>
Table<Header> MakeTable();
template <>
Table<ProvenanceEntry> MakeTable();
template <>
Table<Rollout> MakeTable();
template <>
Table<WeightSpan> MakeTable();
template <>
Table<Segment> MakeTable();
template <>
Table<PerTokenArray> MakeTable();
template <>
Table<Sampling> MakeTable();
template <>
Table<Lease> MakeTable();
template <>
Table<Reward> MakeTable();
template <>
Table<Prompt> MakeTable();
template <>
Table<Group> MakeTable();
template <>
Table<Progress> MakeTable();
template <>
Table<Step> MakeTable();
template <>
Table<Metrics> MakeTable();
template <>
Table<Weights> MakeTable();
template <>
Table<Control> MakeTable();

template <typename T>
const std::vector<Field<T>>& Fields() {
  static const std::vector<Field<T>> kFields = [] {
    Table<T> table = MakeTable<T>();
    for (Field<T>& field : table.fields) field.info.map = table.map;
    return table.fields;
  }();
  return kFields;
}

template <typename T>
stream::Map ToMap(const T& source) {
  stream::Map map;
  map.reserve(Fields<T>().size() + 1);
  for (const Field<T>& field : Fields<T>()) {
    stream::Value value = field.get(source);
    if (!value.is_nil()) map.emplace_back(field.info.key, std::move(value));
  }
  for (const auto& [key, value] : source.unknown) map.emplace_back(key, value);
  return map;
}

/// Takes the map's values. Keys that are not in the table go to `unknown`. The key "type" is skipped when `has_type`.
template <typename T>
T FromMap(stream::Map&& map, bool has_type = false) {
  const std::vector<Field<T>>& fields = Fields<T>();
  T result;
  std::vector<bool> seen(fields.size());
  size_t next = 0;  // keys usually come in the table's order
  for (size_t i = has_type ? 1 : 0; i < map.size(); ++i) {
    auto& [key, value] = map[i];
    size_t tried = 0;
    while (tried < fields.size() && key != fields[next].info.key) {
      next = next + 1 == fields.size() ? 0 : next + 1;
      ++tried;
    }
    if (tried == fields.size()) {
      result.unknown.emplace_back(std::move(key), std::move(value));
      continue;
    }
    if (seen[next]) throw Error::Data("key \"" + key + "\" twice");
    seen[next] = true;
    try {
      fields[next].set(result, std::move(value));
    } catch (const Error& error) {
      throw error.Within("key \"" + key + "\"");
    }
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].info.required && !seen[i]) throw Error::Data(std::string("key \"") + fields[i].info.key + "\" is missing");
  }
  return result;
}

}  // namespace april::record
