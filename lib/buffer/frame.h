// One frame of the journal: a header in a zstd skippable frame, then the transaction's entries in one zstd frame. formats/buffer.md, "Journal".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace april::buffer {

inline constexpr uint64_t kFrameHeaderBytes = 72;
inline constexpr uint32_t kMaxRawFrameBytes = 128u << 20;

struct FrameHeader {
  uint64_t sequence = 0;
  uint32_t compressed_bytes = 0, raw_bytes = 0;
  uint64_t digest = 0;  ///< of the compressed bytes
  uint64_t writer_epoch = 0;
  uint64_t synced = 0;  ///< segment offset below which everything was on disk when the frame was written
  uint32_t segment = 0;
  uint32_t num_entries = 0;
};

/// The header at the start of `bytes`; nullopt when they are too few, or no intact header. Throws Incompatible for a higher major version.
std::optional<FrameHeader> ParseFrameHeader(std::string_view bytes);

/// Header and compressed entries, ready to be appended. Fills in compressed_bytes, raw_bytes and digest.
std::string EncodeFrame(FrameHeader header, std::string_view raw);

/// The entries. Throws Data when the bytes are not what the header says.
std::string DecodeFrame(const FrameHeader& header, std::string_view compressed);

}  // namespace april::buffer
