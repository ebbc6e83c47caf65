#include "buffer/segment_scan.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace april::buffer {

std::optional<ScannedPiece> SegmentScanner::Next() {
  ScannedPiece piece;
  piece.offset = offset_;
  if (offset_ >= file_.Size()) return std::nullopt;
  if (!ReadFrame(offset_, &piece)) {
    piece.header.reset();
    piece.raw.clear();
    piece.end = FindHeader(offset_ + 1);
  }
  offset_ = piece.end;
  return piece;
}

bool SegmentScanner::ReadFrame(uint64_t offset, ScannedPiece* piece) const {
  char head[kFrameHeaderBytes];
  const size_t got = file_.ReadAt(offset, head, sizeof head);
  piece->header = ParseFrameHeader({head, got});
  if (!piece->header) {
    piece->what = got < sizeof head ? "only " + std::to_string(got) + " bytes of a frame's header" : "no intact frame header";
    return false;
  }
  const FrameHeader& header = *piece->header;
  if (header.segment != number_) {
    piece->what = "a frame of segment " + std::to_string(header.segment) + " in the file of segment " + std::to_string(number_);
    return false;
  }
  const uint64_t left = file_.Size() - std::min(file_.Size(), offset + kFrameHeaderBytes);
  if (left < header.compressed_bytes) {
    piece->what = "a frame of " + std::to_string(header.compressed_bytes) + " bytes, of which only " + std::to_string(left) + " are there";
    return false;
  }
  std::string compressed(header.compressed_bytes, '\0');
  compressed.resize(file_.ReadAt(offset + kFrameHeaderBytes, compressed.data(), compressed.size()));
  try {
    piece->raw = DecodeFrame(header, compressed);
  } catch (const Error& error) {
    piece->what = "a damaged frame: " + error.message();
    return false;
  }
  piece->end = offset + kFrameHeaderBytes + compressed.size();
  return true;
}

uint64_t SegmentScanner::FindHeader(uint64_t from) const {
  constexpr size_t kChunk = 4u << 20, kTagOffset = 8;
  std::string bytes;
  for (uint64_t at = from;; at += kChunk) {
    bytes.resize(kChunk + kFrameHeaderBytes - 1);
    bytes.resize(file_.ReadAt(at, bytes.data(), bytes.size()));
    for (size_t i = bytes.find("APRJ", kTagOffset); i != std::string::npos; i = bytes.find("APRJ", i + 1)) {
      const auto header = ParseFrameHeader(std::string_view(bytes).substr(i - kTagOffset));
      if (header && header->segment == number_) return at + i - kTagOffset;
    }
    if (bytes.size() < kChunk + kFrameHeaderBytes - 1) return file_.Size();
  }
}

}  // namespace april::buffer
