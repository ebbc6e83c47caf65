// Finds where a record ends in bytes that are still arriving, holding the limits before anything is buffered for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "stream/msgpack_token.h"
#include "stream/value.h"

namespace april::stream {

class Scanner {
 public:
  explicit Scanner(const DecodeLimits& limits) : limits_(limits) {}

  /// Length of the record at the start of `bytes`, or nullopt when it goes on beyond them; then call again with the same bytes and more.
  /// Throws Data when it is no msgpack map or breaks a limit.
  std::optional<uint64_t> Scan(std::string_view bytes);

 private:
  struct Level {
    uint64_t values_left;
    bool is_map;
  };
  void Take(const Token& token);
  void Open(uint64_t num_values, bool is_map);

  DecodeLimits limits_;
  std::vector<Level> levels_;  ///< open arrays and maps; empty before a record and once its last value is known
  uint64_t offset_ = 0;        ///< end of the last token and its payload, which may lie beyond what has arrived
  uint64_t num_values_ = 0;
};

/// The type of a record: the value of its first key, which must be "type". Throws Data otherwise.
std::string_view TypeOf(std::string_view record);

}  // namespace april::stream
