// A decoded msgpack value: what passes through a tool without being understood.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace april::stream {

struct Bin {
  std::string bytes;
  bool operator==(const Bin&) const = default;
};

class Value;
using Array = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;  ///< keys are strings, in the order of the wire

class Value {
 public:
  using Held = std::variant<std::monostate, bool, int64_t, uint64_t, float, double, std::string, Bin, Array, Map>;

  Value() = default;
  Value(bool value) : held_(value) {}
  Value(int value) : Value(static_cast<int64_t>(value)) {}
  Value(int64_t value);  ///< non-negative values are held as uint64_t, as msgpack does
  Value(uint64_t value) : held_(value) {}
  Value(float value) : held_(value) {}
  Value(double value) : held_(value) {}
  Value(const char* value) : held_(std::string(value)) {}
  Value(std::string value) : held_(std::move(value)) {}
  Value(std::string_view value) : held_(std::string(value)) {}
  Value(Bin value) : held_(std::move(value)) {}
  Value(Array value) : held_(std::move(value)) {}
  Value(Map value) : held_(std::move(value)) {}

  const Held& held() const { return held_; }
  Held& held() { return held_; }
  bool is_nil() const { return held_.index() == 0; }

  // Each throws Data, naming the type that was found, when the value is of another type.
  bool AsBool() const;
  int64_t AsInt() const;    ///< any integer that fits
  uint64_t AsUint() const;  ///< any integer that fits
  double AsDouble() const;  ///< any number
  const std::string& AsString() const;
  const std::string& AsBin() const;
  const Array& AsArray() const;
  const Map& AsMap() const;

  bool operator==(const Value&) const = default;

 private:
  Held held_;
};

/// nullptr when the key is absent.
const Value* Find(const Map& map, std::string_view key);
Value* Find(Map& map, std::string_view key);
/// Replaces or appends.
void Set(Map& map, std::string_view key, Value value);

/// Limits checked before anything is allocated.
struct DecodeLimits {
  uint64_t max_bytes = 64u << 20;
  int max_depth = 16;              ///< nested arrays and maps
  uint64_t max_values = 4u << 20;  ///< elements, keys and values of one record: a one-byte element takes forty in memory
};

/// Appends the shortest msgpack encoding; float and double keep their width.
void Encode(const Value& value, std::string* out);
std::string Encode(const Value& value);
/// Exactly one value. Throws Data on anything else, with the offset.
Value Decode(std::string_view bytes, const DecodeLimits& limits = {});

}  // namespace april::stream
