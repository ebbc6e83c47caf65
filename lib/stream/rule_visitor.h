// The rules of april streams, as a visitor of msgpack-cxx's parser: limits that hold before anything is allocated, keys that are strings, no ext
// types.
#pragma once

#include <cstdint>
#include <limits>
#include <msgpack.hpp>
#include <string>

#include "stream/value.h"

namespace april::stream {

/// Refuses by returning false, which stops the parser; `refusal` then says why. Visitors that make something of what they see derive from it.
class RuleVisitor : public msgpack::null_visitor {
 public:
  enum class Whole { kAnyValue, kMap };

  /// `num_bytes`: how many bytes there are in all, where that is known.
  RuleVisitor(const DecodeLimits& limits, Whole whole, uint64_t num_bytes = std::numeric_limits<uint64_t>::max())
      : limits_(limits), whole_(whole), num_bytes_(num_bytes) {
    init();
  }

  /// Begins another value.
  void init() {
    allowed_ = whole_ == Whole::kMap ? Allowed::kMap : Allowed::kAnything;
    depth_ = 0;
    num_values_ = 0;
    refusal_.clear();
  }

  /// Why the parser did not come to the end; without a reason of its own, because the bytes did.
  std::string refusal() const { return refusal_.empty() ? "the value is cut off" : refusal_; }

  bool visit_nil() { return Allow(Allowed::kAnything); }
  bool visit_boolean(bool) { return Allow(Allowed::kAnything); }
  bool visit_positive_integer(uint64_t) { return Allow(Allowed::kAnything); }
  bool visit_negative_integer(int64_t) { return Allow(Allowed::kAnything); }
  bool visit_float32(float) { return Allow(Allowed::kAnything); }
  bool visit_float64(double) { return Allow(Allowed::kAnything); }
  bool visit_str(const char*, uint32_t) { return Allow(Allowed::kKey); }
  bool visit_bin(const char*, uint32_t) { return Allow(Allowed::kAnything); }
  bool visit_ext(const char*, uint32_t) { return Refuse("a value of an ext type, which no april stream contains,"); }
  bool start_array(uint32_t size) { return Allow(Allowed::kAnything) && Open(size); }
  bool start_map(uint32_t size) { return Allow(Allowed::kMap) && Open(2 * uint64_t{size}); }
  bool start_map_key() {
    allowed_ = Allowed::kKey;
    return true;
  }
  bool end_array() { return Close(); }
  bool end_map() { return Close(); }
  void parse_error(size_t, size_t) { Refuse("the byte 0xc1, which starts no msgpack value,"); }  // all other bytes start one

 protected:
  bool at_key() const { return allowed_ == Allowed::kKey; }

 private:
  enum class Allowed { kAnything, kMap, kKey };

  bool Allow(Allowed kind) {
    if (allowed_ != Allowed::kAnything && allowed_ != kind)
      return Refuse(at_key() ? "a map key that is not a string" : "a record that is no msgpack map");
    allowed_ = Allowed::kAnything;
    return true;
  }

  /// Every value takes a byte at least, so more values than bytes are known to be missing before room is made for them.
  bool Open(uint64_t num_values) {
    if (depth_ == limits_.max_depth) return Refuse("values that nest deeper than " + std::to_string(limits_.max_depth));
    num_values_ += num_values;
    if (num_values_ > num_bytes_) return Refuse("an array or map of " + std::to_string(num_values) + " values that is cut off");
    if (num_values_ > limits_.max_values) return Refuse("more than " + std::to_string(limits_.max_values) + " values in one record");
    ++depth_;
    return true;
  }

  bool Close() {
    --depth_;
    return true;
  }

  bool Refuse(std::string why) {
    refusal_ = std::move(why);
    return false;
  }

  DecodeLimits limits_;
  Whole whole_;
  uint64_t num_bytes_;
  Allowed allowed_ = Allowed::kAnything;
  int depth_ = 0;            ///< of open arrays and maps
  uint64_t num_values_ = 0;  ///< elements, keys and values that the arrays and maps so far said to have
  std::string refusal_;
};

}  // namespace april::stream
