#include "stream/scanner.h"

#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "stream/msgpack_token.h"

namespace april::stream {

void Scanner::Open(uint64_t num_values, bool is_map) {
  if (static_cast<int>(levels_.size()) >= limits_.max_depth) throw Error::Data("the record nests deeper than " + std::to_string(limits_.max_depth));
  num_values_ += num_values;
  if (num_values_ > limits_.max_values) throw Error::Data("the record has more than " + std::to_string(limits_.max_values) + " values");
  levels_.push_back({num_values, is_map});
}

void Scanner::Take(const Token& token) {
  using Kind = Token::Kind;
  const bool is_map = token.kind == Kind::kMap;
  if (levels_.empty()) {
    if (!is_map) throw Error::Data("a record that is no msgpack map");
  } else {
    Level& level = levels_.back();
    if (level.is_map && level.values_left % 2 == 0 && token.kind != Kind::kString) throw Error::Data("a map key that is not a string");
    --level.values_left;
  }
  offset_ += token.head_bytes;
  if (token.kind == Kind::kString || token.kind == Kind::kBin) offset_ += token.bits;
  if (offset_ > limits_.max_bytes) throw Error::Data("the record is larger than the limit of " + HumanBytes(limits_.max_bytes));
  if (is_map || token.kind == Kind::kArray) Open(is_map ? 2 * token.bits : token.bits, is_map);
  while (!levels_.empty() && levels_.back().values_left == 0) levels_.pop_back();
}

std::optional<uint64_t> Scanner::Scan(std::string_view bytes) {
  while (offset_ == 0 || !levels_.empty()) {
    const auto token = ReadToken(bytes, offset_);
    if (!token) return std::nullopt;
    Take(*token);
  }
  if (offset_ > bytes.size()) return std::nullopt;
  num_values_ = 0;
  return std::exchange(offset_, 0);
}

std::string_view TypeOf(std::string_view record) {
  const auto map = ReadToken(record, 0);
  if (!map || map->kind != Token::Kind::kMap) throw Error::Data("a record that is no msgpack map");
  uint64_t offset = map->head_bytes;
  std::string_view words[2];
  for (std::string_view& word : words) {
    const auto token = map->bits == 0 ? std::nullopt : ReadToken(record, offset);
    if (!token || token->kind != Token::Kind::kString || token->bits > record.size() - offset - token->head_bytes) {
      throw Error::Data("a record whose first key is not \"type\" with a string", "the key \"type\" must come first in every record");
    }
    word = record.substr(offset + token->head_bytes, token->bits);
    offset += token->head_bytes + token->bits;
  }
  if (words[0] != "type") {
    throw Error::Data("a record whose first key is \"" + std::string(words[0].substr(0, 40)) + "\"",
                      "the key \"type\" must come first in every record");
  }
  return words[1];
}

}  // namespace april::stream
