// Values to msgpack and back, through msgpack-cxx's packer and parser.
#include <bit>
#include <limits>
#include <msgpack.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "stream/rule_visitor.h"
#include "stream/value.h"

namespace april::stream {
namespace {

/// Where the packer writes.
struct Sink {
  std::string* out;
  void write(const char* bytes, size_t size) { out->append(bytes, size); }
};

class Encoder {
 public:
  explicit Encoder(std::string* out) : sink_{out}, packer_(sink_) {}

  void operator()(std::monostate) { packer_.pack_nil(); }
  void operator()(bool value) { value ? packer_.pack_true() : packer_.pack_false(); }
  void operator()(int64_t value) { packer_.pack_int64(value); }
  void operator()(uint64_t value) { packer_.pack_uint64(value); }
  // The packer would make whole numbers integers: their width and the sign of a zero would be lost, and bytes, thus digests, would differ from those
  // of other versions of the library. So the bits go out as a fixed-width integer, whose first byte then becomes a float's.
  void operator()(float value) {
    packer_.pack_fix_uint32(std::bit_cast<uint32_t>(value));
    SetFirstByte(0xca, sizeof value);
  }
  void operator()(double value) {
    packer_.pack_fix_uint64(std::bit_cast<uint64_t>(value));
    SetFirstByte(0xcb, sizeof value);
  }
  void operator()(const std::string& value) {
    packer_.pack_str(Size(value.size()));
    packer_.pack_str_body(value.data(), Size(value.size()));
  }
  void operator()(const Bin& value) {
    packer_.pack_bin(Size(value.bytes.size()));
    packer_.pack_bin_body(value.bytes.data(), Size(value.bytes.size()));
  }
  void operator()(const Array& value) {
    packer_.pack_array(Size(value.size()));
    for (const Value& element : value) std::visit(*this, element.held());
  }
  void operator()(const Map& value) {
    packer_.pack_map(Size(value.size()));
    for (const auto& [key, element] : value) {
      (*this)(key);
      std::visit(*this, element.held());
    }
  }

 private:
  static uint32_t Size(size_t size) {
    if (size > std::numeric_limits<uint32_t>::max()) {
      throw Error::Data("a msgpack value of " + std::to_string(size) + " elements or bytes is larger than the format can hold");
    }
    return static_cast<uint32_t>(size);
  }
  void SetFirstByte(unsigned byte, size_t payload_bytes) { (*sink_.out)[sink_.out->size() - payload_bytes - 1] = static_cast<char>(byte); }

  Sink sink_;
  msgpack::packer<Sink> packer_;
};

/// Builds what it visits. Arrays and maps get their whole room when they begin, so that pointers into them hold until they end.
class ValueMaker : public RuleVisitor {
 public:
  ValueMaker(const DecodeLimits& limits, uint64_t num_bytes) : RuleVisitor(limits, Whole::kAnyValue, num_bytes) {}

  Value Take() { return std::move(whole_value_); }

  bool visit_nil() { return RuleVisitor::visit_nil() && Put<std::monostate>(); }
  bool visit_boolean(bool value) { return RuleVisitor::visit_boolean(value) && Put<bool>(value); }
  bool visit_positive_integer(uint64_t value) { return RuleVisitor::visit_positive_integer(value) && Put<uint64_t>(value); }
  bool visit_negative_integer(int64_t value) {  // the parser calls it for every signed form
    return RuleVisitor::visit_negative_integer(value) && (value < 0 ? Put<int64_t>(value) : Put<uint64_t>(static_cast<uint64_t>(value)));
  }
  bool visit_float32(float value) { return RuleVisitor::visit_float32(value) && Put<float>(value); }
  bool visit_float64(double value) { return RuleVisitor::visit_float64(value) && Put<double>(value); }
  bool visit_str(const char* bytes, uint32_t size) {
    const bool is_key = at_key();
    if (!RuleVisitor::visit_str(bytes, size)) return false;
    if (!is_key) return Put<std::string>(bytes, size);
    std::get<Map>(open_.back()->held()).emplace_back(std::string(bytes, size), Value());
    return true;
  }
  bool visit_bin(const char* bytes, uint32_t size) { return RuleVisitor::visit_bin(bytes, size) && Put<Bin>(Bin{std::string(bytes, size)}); }
  bool start_array(uint32_t size) { return RuleVisitor::start_array(size) && Begin<Array>(size); }
  bool start_map(uint32_t size) { return RuleVisitor::start_map(size) && Begin<Map>(size); }
  bool end_array() { return End() && RuleVisitor::end_array(); }
  bool end_map() { return End() && RuleVisitor::end_map(); }

 private:
  /// Where the next value goes: into the innermost open array, or behind the last key of the innermost open map.
  Value& Next() {
    if (open_.empty()) return whole_value_;
    if (auto* array = std::get_if<Array>(&open_.back()->held())) return array->emplace_back();
    return std::get<Map>(open_.back()->held()).back().second;
  }
  template <typename T, typename... Parts>
  bool Put(Parts&&... parts) {
    Next().held().emplace<T>(std::forward<Parts>(parts)...);
    return true;
  }
  template <typename Container>
  bool Begin(uint32_t size) {
    Value& place = Next();
    place.held().emplace<Container>().reserve(size);
    open_.push_back(&place);
    return true;
  }
  bool End() {
    open_.pop_back();
    return true;
  }

  Value whole_value_;
  std::vector<Value*> open_;  ///< arrays and maps that have not ended, from the outermost
};

}  // namespace

void Encode(const Value& value, std::string* out) { std::visit(Encoder(out), value.held()); }

std::string Encode(const Value& value) {
  std::string out;
  Encode(value, &out);
  return out;
}

Value Decode(std::string_view bytes, const DecodeLimits& limits) {
  if (bytes.size() > limits.max_bytes) {
    throw Error::Data("a value of " + HumanBytes(bytes.size()) + ", more than the limit of " + HumanBytes(limits.max_bytes));
  }
  ValueMaker maker(limits, bytes.size());
  size_t end = 0;
  if (!msgpack::parse(bytes.data(), bytes.size(), end, maker)) throw Error::Data("msgpack: " + maker.refusal() + " at offset " + std::to_string(end));
  if (end != bytes.size())
    throw Error::Data("msgpack: " + std::to_string(bytes.size() - end) + " bytes follow the value at offset " + std::to_string(end));
  return maker.Take();
}

}  // namespace april::stream
