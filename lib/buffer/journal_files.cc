#include "buffer/journal_files.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/cut.h"
#include "buffer/entries.h"
#include "buffer/segment_scan.h"

namespace april::buffer {
namespace {

bool Continues(const SegmentName& before, const SegmentName& next) { return before.first + *before.frames == next.first; }

/// Back from the last file to one that begins a journal, over files that continue each other; empty when one is missing.
std::vector<SegmentName> ChainTo(const std::vector<SegmentName>& all, const SegmentName& last) {
  std::vector<SegmentName> chain = {last};
  while (chain.front().first != 1) {
    const auto before = std::find_if(all.rbegin(), all.rend(), [&](const SegmentName& segment) {
      return segment.number < chain.front().number && Continues(segment, chain.front());
    });
    if (before == all.rend()) return {};
    chain.insert(chain.begin(), *before);
  }
  return chain;
}

/// What a compaction wrote, from `head` on, then the files that were written since: the oldest chain that ends with the last file.
std::vector<SegmentName> CompactedChain(const std::vector<SegmentName>& all, const SegmentName& head, const SegmentName& last) {
  std::vector<SegmentName> chain = {head};
  for (const SegmentName& segment : all) {
    if (segment.number == chain.back().number + 1 && Continues(chain.back(), segment)) chain.push_back(segment);
  }
  std::vector<SegmentName> tail = {last};
  for (bool found = true; found;) {
    found = false;
    for (const SegmentName& segment : all) {
      if (segment.number <= chain.back().number || segment.number >= tail.front().number || !Continues(segment, tail.front())) continue;
      tail.insert(tail.begin(), segment);
      found = true;
      break;
    }
  }
  if (last.number > chain.back().number && tail.front().first != 1) chain.insert(chain.end(), tail.begin(), tail.end());
  return chain;
}

bool IsSound(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments) {
  bool whole = false;
  return !segments.empty() && !FindCut(files, directory, segments, &whole) && whole;
}

}  // namespace

void CreateSegment(FileSystem& files, const std::string& directory, const SegmentName& segment, std::string_view content) {
  const std::string path = JoinPath(directory, segment.name);
  const auto file = files.Create(path);
  if (!content.empty()) file->Append(content);
  file->Sync();
  file->Close();
  files.SyncDirectory(DirectoryOf(path));
}

std::optional<SegmentName> SegmentOfFile(FileSystem& files, const std::string& directory, const std::string& name) {
  const auto file = files.OpenForRead(JoinPath(directory, name));
  char head[kFrameHeaderBytes];
  const auto first = ParseFrameHeader({head, file->ReadAt(0, head, sizeof head)});
  if (!first || SegmentPath(first->segment) != name) return std::nullopt;
  SegmentName segment{first->segment, name, first->writer_epoch, first->sequence, 0};
  SegmentScanner scanner(*file, first->segment);
  while (const auto piece = scanner.Next()) {
    if (!piece->header || piece->header->sequence != segment.first + *segment.frames) break;
    ++*segment.frames;
  }
  return *segment.frames > 0 ? std::optional(segment) : std::nullopt;
}

std::vector<SegmentName> BeforeCompaction(FileSystem& files, const std::string& directory, const Manifest& manifest) {
  std::vector<SegmentName> before;
  for (const std::string& name : manifest.retired) {
    const auto segment = files.Exists(JoinPath(directory, name)) ? SegmentOfFile(files, directory, name) : std::nullopt;
    if (!segment || (before.empty() ? segment->first != 1 : !Continues(before.back(), *segment))) return {};
    before.push_back(*segment);
  }
  if (before.empty()) return {};
  const auto since = std::find_if(manifest.segments.begin(), manifest.segments.end(),
                                  [&](const SegmentName& segment) { return Continues(before.back(), segment) && segment.first != 1; });
  if (since == manifest.segments.end() || !IsSound(files, directory, before)) return {};
  before.insert(before.end(), since, manifest.segments.end());
  return before;
}

Manifest RebuildManifest(FileSystem& files, const std::string& directory) {
  std::vector<SegmentName> all;
  uint32_t next_number = 1;
  for (const std::string& file : files.List(JoinPath(directory, "journal"))) {
    const auto number = static_cast<uint32_t>(std::strtoul(file.c_str(), nullptr, 10));
    next_number = std::max(next_number, number + 1);
    if (auto segment = SegmentOfFile(files, directory, "journal/" + file)) all.push_back(std::move(*segment));
  }
  std::sort(all.begin(), all.end(), [](const SegmentName& a, const SegmentName& b) { return a.number < b.number; });
  Manifest manifest;
  manifest.next_number = next_number;
  manifest.compactions = next_number;  // more than there can have been: whoever has the journal open reads it anew
  // Newest first. A compaction that was killed leaves a chain that is not whole, beside the one that it was to replace.
  std::vector<std::vector<SegmentName>> chains;
  for (auto last = all.rbegin(); last != all.rend(); ++last) {
    chains.push_back(ChainTo(all, *last));
    for (auto head = all.rbegin(); head != all.rend(); ++head) {
      if (head->first == 1 && head->number < last->number) chains.push_back(CompactedChain(all, *head, *last));
    }
  }
  std::erase_if(chains, [](const auto& chain) { return chain.empty(); });
  const auto sound = std::find_if(chains.begin(), chains.end(), [&](const auto& chain) { return IsSound(files, directory, chain); });
  if (sound != chains.end()) {
    manifest.segments = *sound;
  } else if (!chains.empty()) {
    manifest.segments = chains.front();
  } else {
    throw Error::Data(directory + ": no files of journal/ continue each other from the run's beginning to its newest frame",
                      "restore them from a copy");
  }
  for (const SegmentName& segment : manifest.segments) manifest.writer_epoch = std::max(manifest.writer_epoch, segment.epoch);
  const auto file = files.OpenForRead(JoinPath(directory, manifest.segments.front().name));
  const auto first = SegmentScanner(*file, manifest.segments.front().number).Next();
  const DecodedEntry init = ReadEntry(first->raw);
  if (!std::holds_alternative<InitEntry>(init.entry)) throw Error::Data(directory + ": the oldest file of journal/ does not begin with the run");
  manifest.run = std::get<InitEntry>(init.entry).config.run;
  // Of the last file nobody may know where it ends: it is open, and what is behind its frames is found as a cut.
  manifest.segments.back().frames.reset();
  return manifest;
}

}  // namespace april::buffer
