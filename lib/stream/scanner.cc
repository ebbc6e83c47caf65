#include "stream/scanner.h"

#include <msgpack.hpp>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "stream/rule_visitor.h"

namespace april::stream {
namespace {

/// Stops the parser after the first key and its value, or at once when they are no strings.
struct FirstPair : msgpack::null_visitor {
  bool is_map = false;
  std::optional<std::string_view> key, value;

  bool start_array(uint32_t) { return false; }
  bool start_map(uint32_t) { return !std::exchange(is_map, true); }
  bool visit_str(const char* bytes, uint32_t size) {
    (key ? value : key).emplace(bytes, size);
    return true;
  }
  bool end_map_key() { return key.has_value(); }
  bool end_map_value() { return false; }
};

/// How long an unfinished record is at least, of which the parser has come to `offset`. Only a value whose length takes four bytes can still be
/// unfinished after 64 KiB, and the parser then stands right behind them.
uint64_t LeastSize(std::string_view bytes, size_t offset) {
  if (bytes.size() - offset < 1u << 16) return bytes.size();
  return offset + uint64_t{__builtin_bswap32(LoadLe<uint32_t>(bytes.data() + offset - 4))};
}

}  // namespace

/// msgpack-cxx's parser without a buffer of its own: that of msgpack::parser forgets the bytes that it has parsed, which are wanted here.
struct Scanner::Parser : msgpack::detail::context<Scanner::Parser> {
  explicit Parser(const DecodeLimits& limits) : rules(limits, RuleVisitor::Whole::kMap) {}
  RuleVisitor& visitor() { return rules; }
  RuleVisitor rules;
};

Scanner::Scanner(const DecodeLimits& limits) : limits_(limits), parser_(std::make_unique<Parser>(limits)) {}
Scanner::~Scanner() = default;

std::optional<uint64_t> Scanner::Scan(std::string_view bytes) {
  const auto result = parser_->execute(bytes.data(), bytes.size(), offset_);
  const bool is_whole = result == msgpack::PARSE_SUCCESS;
  if (!is_whole && result != msgpack::PARSE_CONTINUE) throw Error::Data(parser_->rules.refusal() + " at offset " + std::to_string(offset_));
  if ((is_whole ? offset_ : LeastSize(bytes, offset_)) > limits_.max_bytes) {
    throw Error::Data("the record is larger than the limit of " + HumanBytes(limits_.max_bytes));
  }
  if (!is_whole) return std::nullopt;
  parser_->init();
  return std::exchange(offset_, 0);
}

std::string_view TypeOf(std::string_view record) {
  FirstPair first;
  msgpack::parse(record.data(), record.size(), first);
  if (!first.is_map) throw Error::Data("a record that is no msgpack map");
  if (!first.key || !first.value) {
    throw Error::Data("a record whose first key is not \"type\" with a string", "the key \"type\" must come first in every record");
  }
  if (*first.key != "type") {
    throw Error::Data("a record whose first key is \"" + std::string(first.key->substr(0, 40)) + "\"",
                      "the key \"type\" must come first in every record");
  }
  return *first.value;
}

}  // namespace april::stream
