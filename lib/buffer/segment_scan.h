// Reads one file of the journal from beginning to end, damaged or not. For verify and repair; everybody else stops at damage (journal.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/file.h"
#include "buffer/frame.h"

namespace april::buffer {

/// Bytes [offset, end) of a file: an intact frame, or bytes that are none.
struct ScannedPiece {
  uint64_t offset = 0, end = 0;
  std::optional<FrameHeader> header;  ///< of an intact frame
  std::string raw;                    ///< its entries
  std::string what;                   ///< why these bytes are no frame
};

class SegmentScanner {
 public:
  /// `number` is that of the segment: a frame of another one is no part of it. `file` must outlive the object.
  SegmentScanner(const ReadableFile& file, uint32_t number) : file_(file), number_(number) {}
  /// nullopt at the end of the file. Throws Incompatible at a frame of a higher major version.
  std::optional<ScannedPiece> Next();
  /// Reads the piece at this offset next.
  void Seek(uint64_t offset) { offset_ = offset; }

 private:
  /// Whether an intact frame begins at `offset`; if not, `piece->what` says why.
  bool ReadFrame(uint64_t offset, ScannedPiece* piece) const;
  uint64_t FindHeader(uint64_t from) const;

  const ReadableFile& file_;
  uint32_t number_;
  uint64_t offset_ = 0;
};

}  // namespace april::buffer
