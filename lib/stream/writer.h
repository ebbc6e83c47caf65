// Writes framed records to any endpoint, with marks, digests and a mandatory end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "stream/endpoint.h"
#include "stream/reader.h"

namespace april::stream {

struct WriterOptions {
  bool compress = true;  ///< for files; pipes and sockets carry plain msgpack
  int64_t peer_timeout_ms = 60'000;
  uint64_t mark_bytes = 8u << 20;     ///< a mark at least every so many bytes
  int64_t mark_interval_ms = 10'000;  ///< and at least this often, also while nothing is written: slow differs from hung
};

class Writer {
 public:
  /// Opens and writes the header record. A file is written as PATH.tmp and renamed by Finish. Refuses a terminal. Throws Usage, Runtime, Peer.
  static std::unique_ptr<Writer> Open(const std::string& endpoint, std::string_view header, const WriterOptions& options);
  /// Throws what Open would throw for want of a place to write to, and opens nothing: for whoever changes something else first.
  static void RequireOpens(const std::string& endpoint);
  virtual ~Writer() = default;
  /// One msgpack map. Throws Runtime (disk full), Peer (closed pipe, lost socket).
  virtual void Write(std::string_view record) = 0;
  virtual void Flush() = 0;
  virtual void Finish(EndStatus status) = 0;
};

}  // namespace april::stream
