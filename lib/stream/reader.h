// Reads framed records from any endpoint and proves the stream whole.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "stream/endpoint.h"
#include "stream/value.h"

namespace april::stream {

enum class EndStatus { kOk, kStopped, kError };

struct ReaderOptions {
  DecodeLimits limits;
  int64_t peer_timeout_ms = 60'000;
  int64_t sources = 1;
  bool for_stdout = false;       ///< of what comes from a file descriptor: all is for stdout, so that waiting ends with Peer when nobody reads that
  bool allow_truncated = false;  ///< a viewer's choice: truncation ends the stream with a warning
};

class Reader {
 public:
  /// Opens and reads the header. Throws Usage, Runtime, Data, Incompatible, Peer.
  static std::unique_ptr<Reader> Open(const std::string& endpoint, const ReaderOptions& options);
  virtual ~Reader() = default;
  virtual const std::string& header() const = 0;  ///< the header record's msgpack bytes
  /// The next record's bytes, valid until the next call; nullopt only after a verified end. Marks are checked and not returned.
  virtual std::optional<std::string_view> Next() = 0;
  virtual EndStatus end_status() const = 0;
  virtual std::string Position() const = 0;  ///< "record 4812 of stdin", for messages
};

}  // namespace april::stream
