#include "buffer/cut.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "buffer/entries.h"
#include "buffer/ledger.h"
#include "buffer/segment_scan.h"
#include "buffer/verification.h"

namespace april::buffer {
namespace {

/// What is wrong with a frame's entries, by every reading that there is; "" when nothing is.
std::string ReadEntries(const ScannedPiece& piece, uint32_t segment, State& state, Ledger& ledger) {
  std::string wrong;
  uint32_t count = 0;
  try {
    ForEachEntry(piece.raw, [&](const DecodedEntry& decoded, size_t offset) {
      ++count;
      if (!wrong.empty()) return;
      wrong = CheckEntry(decoded);
      if (wrong.empty()) ledger.Read(decoded, [&](const std::string& what) { wrong = what; });
      if (wrong.empty()) state.Apply(decoded, {segment, static_cast<uint32_t>(offset), piece.offset});
    });
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kIncompatible) throw;
    return error.message();
  }
  if (wrong.empty() && count != piece.header->num_entries) return "it has not as many entries as its header says";
  return wrong;
}

/// Whether any frame of the file says that it knew `offset` to be on disk.
bool IsVouchedFor(const ReadableFile& file, uint32_t number, uint64_t offset) {
  SegmentScanner scanner(file, number);
  while (const auto piece = scanner.Next()) {
    if (piece->header && piece->header->synced > offset) return true;
  }
  return false;
}

}  // namespace

std::optional<Cut> FindCut(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments, bool* whole) {
  State state;
  Ledger ledger;
  if (whole) *whole = true;
  for (size_t index = 0; index < segments.size(); ++index) {
    const SegmentName& name = segments[index];
    Cut cut{index, 0, 0, false, false, ""};
    const std::string path = JoinPath(directory, name.name);
    if (!files.Exists(path)) {
      cut.missing = true;
      cut.why = "the file is missing";
      return cut;
    }
    const auto file = files.OpenForRead(path);
    SegmentScanner scanner(*file, name.number);
    while (const auto piece = scanner.Next()) {
      if (!piece->header) {
        cut.why = piece->what;
        cut.torn = index + 1 == segments.size() && !name.frames && !IsVouchedFor(*file, name.number, cut.offset);
      } else if (piece->header->sequence != name.first + cut.frames) {
        cut.why =
            "frame " + std::to_string(piece->header->sequence) + " stands where frame " + std::to_string(name.first + cut.frames) + " is expected";
      } else {
        cut.why = ReadEntries(*piece, name.number, state, ledger);
      }
      if (!cut.why.empty()) return cut;
      ++cut.frames;
      cut.offset = piece->end;
    }
    if (name.frames && *name.frames != cut.frames) {
      cut.why = "the segment ends after " + std::to_string(cut.frames) + " of " + std::to_string(*name.frames) + " frames";
      return cut;
    }
  }
  if (!state.initialised()) return Cut{0, 0, 0, false, false, "the journal is empty"};
  ledger.Finish([&](const std::string&) {
    if (whole) *whole = false;
  });
  return std::nullopt;
}

std::unique_ptr<State> StateBefore(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments, const Cut& cut) {
  auto state = std::make_unique<State>();
  for (size_t index = 0; index <= cut.segment; ++index) {
    if (index == cut.segment && cut.offset == 0) break;
    const auto file = files.OpenForRead(JoinPath(directory, segments[index].name));
    SegmentScanner scanner(*file, segments[index].number);
    while (const auto piece = scanner.Next()) {
      if (index == cut.segment && piece->offset >= cut.offset) break;
      ForEachEntry(piece->raw, [&](const DecodedEntry& decoded, size_t offset) {
        state->Apply(decoded, {segments[index].number, static_cast<uint32_t>(offset), piece->offset});
      });
    }
  }
  return state;
}

}  // namespace april::buffer
