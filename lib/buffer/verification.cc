#include "buffer/verification.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/buffer_manifest.h"
#include "buffer/index_check.h"
#include "buffer/index_file.h"
#include "buffer/payloads.h"
#include "buffer/segment_scan.h"
#include "buffer/store.h"
#include "text/tokenizer.h"

namespace april::buffer {
namespace {

constexpr auto kPause = std::chrono::milliseconds(20);

std::string CheckRollout(const RolloutEntry& entry, std::string_view payload) {
  const std::string of = "rollout " + HexU64(entry.uid) + ": ";
  const record::Record record = record::DecodeRecord(payload);
  const auto* rollout = std::get_if<record::Rollout>(&record);
  if (!rollout || rollout->uid != entry.uid) return of + "its entry has the record of something else";
  if (static_cast<int64_t>(rollout->tokens.size()) != entry.tokens) {
    return of + "its record has " + std::to_string(rollout->tokens.size()) + " tokens, its entry says " + std::to_string(entry.tokens);
  }
  if (ExtendChain(0, rollout->tokens, rollout->logprobs, 0, rollout->tokens.size()) != entry.chain)
    return of + "its record's tokens or log-probabilities are not those that its entry names";
  if (rollout->uid != record::RolloutUid(rollout->run, rollout->prompt_id, rollout->epoch, rollout->index, rollout->attempt))
    return of + "its uid is not the hash of its run, prompt, epoch, index and attempt";
  return "";
}

std::string Check(const PromptEntry& entry, std::string_view payload) {
  const record::Record record = record::DecodeRecord(payload);
  const auto* prompt = std::get_if<record::Prompt>(&record);
  const bool agrees = prompt && prompt->prompt_id == entry.id && static_cast<int64_t>(prompt->prompt_tokens.size()) == entry.tokens;
  return agrees ? "" : "prompt " + entry.id + ": its record is of another prompt, or has another number of tokens";
}
std::string Check(const RolloutEntry& entry, std::string_view payload) { return CheckRollout(entry, payload); }
std::string Check(const MemberEntry& entry, std::string_view payload) {
  if (!payload.empty()) return CheckRollout(entry.rollout, payload);
  return entry.rollout.tokens == 0 ? "" : "rollout " + HexU64(entry.rollout.uid) + ": the snapshot names tokens of it, but has none";
}
std::string Check(const ProgressEntry& entry, std::string_view payload) {
  const record::Record record = record::DecodeRecord(payload);
  const auto* delta = std::get_if<record::Progress>(&record);
  const bool agrees = delta && delta->uid == entry.uid && delta->start + static_cast<int64_t>(delta->tokens.size()) == entry.tokens;
  return agrees ? "" : "rollout " + HexU64(entry.uid) + ": its progress does not end where its entry says";
}
std::string Check(const CommitEntry& entry, std::string_view payload) {
  if (payload.empty()) return "";
  const record::Record record = record::DecodeRecord(payload);
  const auto* step = std::get_if<record::Step>(&record);
  return step && step->claim == entry.claim && step->step == entry.step ? "" : "commit of claim " + entry.claim + ": its record is of another step";
}
template <typename Other>
std::string Check(const Other&, std::string_view) {
  return "";
}

class Verifier {
 public:
  Verifier(FileSystem& files, const Clock& clock, const std::string& directory, const VerifyOptions& options)
      : files_(files), clock_(clock), directory_(directory), options_(options) {}

  VerifyReport Run() {
    OpenFiles();
    if (report_.findings.empty()) TellFiles();
    for (current_ = 0; current_ < readers_.size(); ++current_) {
      if (readers_[current_]) ReadSegment();
    }
    if (state_ && !state_->initialised() && report_.findings.empty())
      Find("journal", "it is empty", std::string("take the run's first entry from ") + kInitCopy);
    if (state_ && state_->initialised() && state_->config().run != manifest_.run) {
      Find("manifest.json", "it is of run \"" + manifest_.run + "\", the journal of \"" + state_->config().run + "\"", "");
    }
    if (report_.findings.empty()) CheckIndex();
    if (report_.findings.empty()) {
      ReadBack();
      CheckModel();
    }
    return std::move(report_);
  }

 private:
  void Find(std::string where, std::string what, std::string remedy) { report_.findings.Add({std::move(where), std::move(what), std::move(remedy)}); }
  const SegmentName& Current() const { return manifest_.segments[current_]; }
  bool IsLast() const { return current_ + 1 == manifest_.segments.size() && !Current().frames; }
  Position At(uint64_t offset, uint64_t entry = 0) const { return {Current().number, static_cast<uint32_t>(entry), offset}; }

  /// As a compaction may remove files meanwhile, all are opened at once.
  void OpenFiles() {
    for (int attempt = 0;; ++attempt) {
      try {
        manifest_ = ReadManifest(files_, directory_);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kData) throw;
        return Find("manifest.json", error.message(), kManifestRemedy);
      }
      readers_.clear();
      std::vector<std::string> missing;
      for (const SegmentName& segment : manifest_.segments) {
        const std::string path = JoinPath(directory_, segment.name);
        readers_.push_back(nullptr);
        try {
          readers_.back() = files_.OpenForRead(path);
          total_ += readers_.back()->Size();
        } catch (const Error&) {
          if (files_.Exists(path)) throw;
          missing.push_back(segment.name);
        }
      }
      if (!missing.empty() && attempt < 3) continue;
      for (const std::string& name : missing) {
        Find(name, "missing, but the manifest names it", "keep everything before this segment, and move what follows aside");
        state_.reset();
      }
      return;
    }
  }

  void TellFiles() {
    for (const std::string& name : manifest_.retired) {
      if (files_.Exists(JoinPath(directory_, name))) report_.notes.push_back(name + ": retired; the next compaction deletes it");
    }
    for (const std::string& name : UnnamedFiles(files_, directory_, manifest_)) {
      report_.notes.push_back(
          name + ": no manifest names it: a crash or a compaction under way left it; repair would move it aside, a compaction deletes it");
    }
  }

  void ReadSegment() {
    ++report_.segments;
    SegmentScanner scanner(*readers_[current_], Current().number);
    uint64_t expected = Current().first, synced = 0;
    std::vector<ScannedPiece> bad;
    while (auto piece = NextPiece(scanner)) {
      report_.bytes += piece->end - piece->offset;
      options_.progress(report_.bytes, std::max(total_, report_.bytes));
      if (!piece->header) {
        state_.reset();
        bad.push_back(std::move(*piece));
        continue;
      }
      synced = std::max(synced, piece->header->synced);
      if (piece->header->sequence != expected && bad.empty()) {
        Find(DescribePosition(At(piece->offset)),
             "frame " + std::to_string(piece->header->sequence) + " stands where frame " + std::to_string(expected) + " is expected",
             CutRemedy(At(piece->offset)));
        state_.reset();
      }
      expected = piece->header->sequence + 1;
      ReadEntries(*piece);
    }
    TellBad(bad, synced);
    const uint64_t frames = expected - Current().first;
    if (Current().frames && *Current().frames != frames && bad.empty()) {
      const uint64_t end = readers_[current_]->Size();
      Find(DescribePosition(At(end)),
           "the segment ends after " + std::to_string(frames) + " frames, the manifest says " + std::to_string(*Current().frames),
           CutRemedy(At(end)));
      state_.reset();
    }
  }

  /// The end of the last segment may be what a writer is writing at this moment: damage is what stays.
  std::optional<ScannedPiece> NextPiece(SegmentScanner& scanner) {
    auto piece = scanner.Next();
    for (int64_t waited_ms = 0; piece && !piece->header && IsLast() && piece->end >= readers_[current_]->Size() && waited_ms < options_.patience_ms;
         waited_ms += kPause.count()) {
      std::this_thread::sleep_for(kPause);
      scanner.Seek(piece->offset);
      piece = scanner.Next();
    }
    return piece;
  }

  void TellBad(const std::vector<ScannedPiece>& bad, uint64_t synced) {
    for (const ScannedPiece& piece : bad) {
      const std::string size = std::to_string(piece.end - piece.offset) + " bytes: ";
      if (IsLast() && synced <= piece.offset) {
        return Find(DescribePosition(At(piece.offset)),
                    size + piece.what + ": the torn tail of a transaction that nobody was told had happened, or damage in the last one",
                    "move everything from here on aside; nothing that a writer marked as being on disk is in it");
      }
      Find(DescribePosition(At(piece.offset)), size + piece.what + ", below what was synced: damaged", CutRemedy(At(piece.offset)));
    }
  }

  void ReadEntries(const ScannedPiece& piece) {
    ++report_.frames;
    uint32_t count = 0;
    for (size_t offset = 0; offset < piece.raw.size(); ++count) {
      const Position at = At(piece.offset, offset);
      try {
        const DecodedEntry decoded = ReadEntry(std::string_view(piece.raw).substr(offset));
        offset += decoded.entry_bytes + decoded.payload.size();
        ++report_.entries;
        report_.payloads += !decoded.payload.empty();
        if (const std::string what = CheckEntry(decoded); !what.empty()) Find(DescribePosition(at), what, CutRemedy(at));
        if (state_) Apply(decoded, at);
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::kIncompatible) throw;
        Find(DescribePosition(at), error.message(), CutRemedy(at));
        state_.reset();
        return;
      }
    }
    if (count != piece.header->num_entries) {
      Find(DescribePosition(At(piece.offset)),
           "it has " + std::to_string(count) + " entries, its header says " + std::to_string(piece.header->num_entries), CutRemedy(At(piece.offset)));
    }
  }

  /// Until something is missing, each entry must also continue what stands before it.
  void Apply(const DecodedEntry& decoded, Position at) {
    if (const auto* entry = std::get_if<ProgressEntry>(&decoded.entry)) {
      const auto key = state_->FindRollout(entry->uid);
      const record::Record record = record::DecodeRecord(decoded.payload);
      const auto* delta = std::get_if<record::Progress>(&record);
      const bool continues = key && delta && delta->start == state_->rollout(*key).tokens &&
                             ExtendChain(state_->rollout(*key).chain, delta->tokens, delta->logprobs, 0, delta->tokens.size()) == entry->chain;
      if (!continues) throw Error::Data("rollout " + HexU64(entry->uid) + ": progress that does not continue what is journaled of it");
    }
    state_->Apply(decoded, at);
  }

  void CheckIndex() {
    if (std::string what = CompareIndex(files_, directory_); !what.empty())
      Find(kIndex, std::move(what), "move it aside: the next writer makes a new one, and nothing is lost");
  }

  /// Every rollout as other commands read it: by the positions that the state keeps.
  void ReadBack() {
    state_.reset();
    Store store(files_, clock_, directory_);
    std::vector<std::pair<Position, uint64_t>> order;
    for (const auto& [admission, group] : store.state().groups()) {
      for (size_t i = 0; i < group.members.size(); ++i) order.emplace_back(group.members[i].payload, MakeKey(admission, i));
    }
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::tie(a.first.segment, a.first.frame, a.first.entry) < std::tie(b.first.segment, b.first.frame, b.first.entry);
    });
    for (const auto& [at, key] : order) {
      const RolloutMeta& meta = store.state().rollout(key);
      std::string what;
      try {
        const record::Rollout rollout = store.ReadJournaled(key);
        const bool same = rollout.uid == meta.uid && static_cast<int64_t>(rollout.tokens.size()) == meta.tokens &&
                          ExtendChain(0, rollout.tokens, rollout.logprobs, 0, rollout.tokens.size()) == meta.chain;
        if (!same) what = "what is read of it is not what its entries name";
      } catch (const Error& error) {
        what = error.message();
      }
      ++report_.rollouts;
      if (!what.empty()) Find(DescribePosition(at), "rollout " + HexU64(meta.uid) + ": " + what, CutRemedy(at));
    }
    config_ = store.state().config();
  }

  /// The model is no part of the buffer, but without its tokenizer the tokens cannot be shown.
  void CheckModel() {
    if (config_.model.empty() || !config_.tokenizer) return;
    try {
      const uint64_t digest = text::Tokenizer::Load(config_.model)->digest();
      if (digest != *config_.tokenizer) {
        report_.notes.push_back("model " + config_.model + " has tokenizer " + HexU64(digest) + " now, the run's is " + HexU64(*config_.tokenizer));
      }
    } catch (const Error& error) {
      report_.notes.push_back("model " + config_.model + " cannot be read any more: " + error.message());
    }
  }

  FileSystem& files_;
  const Clock& clock_;
  const std::string& directory_;
  const VerifyOptions& options_;
  VerifyReport report_;
  Manifest manifest_;
  std::vector<std::unique_ptr<ReadableFile>> readers_;  ///< null: missing
  size_t current_ = 0;
  uint64_t total_ = 0;
  std::optional<State> state_ = State();  ///< as long as nothing is missing
  RunConfig config_;
};

}  // namespace

std::string CheckEntry(const DecodedEntry& decoded) {
  try {
    return std::visit([&](const auto& entry) { return Check(entry, decoded.payload); }, decoded.entry);
  } catch (const Error& error) {
    return "its payload is no whole record: " + error.message();
  }
}

std::vector<std::string> UnnamedFiles(FileSystem& files, const std::string& directory, const Manifest& manifest) {
  std::vector<std::string> named = manifest.retired, unnamed;
  for (const SegmentName& segment : manifest.segments) named.push_back(segment.name);
  if (!files.Exists(JoinPath(directory, "journal"))) return {};
  for (const std::string& file : files.List(JoinPath(directory, "journal"))) {
    const std::string name = "journal/" + file;
    if (std::find(named.begin(), named.end(), name) == named.end()) unnamed.push_back(name);
  }
  return unnamed;
}

VerifyReport Verify(FileSystem& files, const Clock& clock, const std::string& directory, const VerifyOptions& options) {
  return Verifier(files, clock, directory, options).Run();
}

}  // namespace april::buffer
