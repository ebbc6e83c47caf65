// The messages of a stream over ZeroMQ, as formats/stream.md describes them: envelopes from the writer, notes from the reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace april::stream {

inline constexpr int64_t kCreditBytes = 16 << 20;  ///< what a writer may send beyond what the reader has handed on

/// In front of each record; alone, it says that the writer is alive.
struct Envelope {
  uint64_t stream = 0;     ///< the writer's random name for the stream
  uint64_t seq = 0;        ///< number of the map in the stream, 0 = header; of the next one when alone
  bool abandoned = false;  ///< the writer gave up: no end will come
};

/// From the reader, at least once per beat.
struct Note {
  uint64_t reader = 0;        ///< the reader's random name
  uint64_t credit = 0;        ///< bytes of the stream that may have been sent in all
  bool acknowledged = false;  ///< the end was verified and everything before it handed on
  std::string refused;        ///< why the reader takes nothing more; empty when it does
};

std::string EncodeEnvelope(const Envelope& envelope);
Envelope DecodeEnvelope(std::string_view bytes);  ///< throws Data
std::string EncodeNote(const Note& note);
Note DecodeNote(std::string_view bytes);  ///< throws Data

/// How often each side says that it is alive.
int64_t BeatMs(int64_t peer_timeout_ms);

}  // namespace april::stream
