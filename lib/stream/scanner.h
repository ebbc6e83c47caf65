// Finds where a record ends in bytes that are still arriving.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "stream/value.h"

namespace april::stream {

class Scanner {
 public:
  explicit Scanner(const DecodeLimits& limits);
  ~Scanner();

  /// Length of the record at the start of `bytes`, or nullopt when it goes on beyond them; then call again with the same bytes and more.
  /// Throws Data when it is no msgpack map or breaks a limit, so that a caller never holds more than `max_bytes` and one read for a record: a value
  /// that alone is too long is known after 64 KiB of it.
  std::optional<uint64_t> Scan(std::string_view bytes);

 private:
  struct Parser;
  DecodeLimits limits_;
  std::unique_ptr<Parser> parser_;
  size_t offset_ = 0;  ///< how far the parser has come
};

/// The type of a record: the value of its first key, which must be "type". Throws Data otherwise.
std::string_view TypeOf(std::string_view record);

}  // namespace april::stream
