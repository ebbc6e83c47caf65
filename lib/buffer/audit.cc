#include "buffer/audit.h"

#include <optional>

#include "base/error.h"
#include "buffer/buffer_state.h"

namespace april::buffer {
namespace {

/// Both readings of the same entries: the ledger's, and the one that every other command believes.
class Auditor {
 public:
  void Read(std::string_view raw, Position at) {
    ++report_.frames;
    for (size_t offset = 0; offset < raw.size() && !unreadable_;) {
      at.entry = static_cast<uint32_t>(offset);
      try {
        const DecodedEntry decoded = ReadEntry(raw.substr(offset));
        offset += decoded.entry_bytes + decoded.payload.size();
        ++report_.entries;
        ReadOne(decoded, at);
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::kIncompatible) throw;
        Complain(at, error.message());
        unreadable_ = true;
      }
    }
  }

  AuditReport Finish(const Journal& journal) {
    report_.torn_bytes = journal.torn_bytes();
    const auto complain = [&](const std::string& what) { report_.findings.Add({"the whole journal", what, ""}); };
    if (report_.entries == 0 && report_.findings.empty()) complain("it is empty");
    ledger_.Finish(complain);
    report_.accounts = ledger_.Sum();
    report_.claims = ledger_.num_claims();
    report_.commits = ledger_.num_commits();
    if (!report_.accounts.Balance()) complain("journaled tokens or rollouts are not those that were trained, are held, were dropped or superseded");
    if (state_) ledger_.Compare(*state_, complain);
    return std::move(report_);
  }

  void Damaged(const Error& error) { report_.findings.Add({"journal", error.message() + "; what follows is not in the sums", ""}); }

 private:
  void ReadOne(const DecodedEntry& decoded, Position at) {
    ledger_.Read(decoded, [&](const std::string& what) { Complain(at, what); });
    if (!state_) return;
    try {
      state_->Apply(decoded, at);
    } catch (const Error& error) {
      Complain(at, "no command can read on from here: " + error.message());
      state_.reset();
    }
  }
  void Complain(Position at, const std::string& what) { report_.findings.Add({DescribePosition(at), what, CutRemedy(at)}); }

  AuditReport report_;
  Ledger ledger_;
  std::optional<State> state_ = State();
  bool unreadable_ = false;
};

}  // namespace

std::string DescribePosition(Position at) {
  return SegmentPath(at.segment) + ", frame at offset " + std::to_string(at.frame) + ", entry at " + std::to_string(at.entry);
}

std::string CutRemedy(Position at) {
  return "keep everything before this frame, and move it and what follows aside (" + SegmentPath(at.segment) + " from offset " +
         std::to_string(at.frame) + " on)";
}

AuditReport Audit(FileSystem& files, const std::string& directory) {
  for (;;) {
    Journal journal(files, directory);
    Auditor auditor;
    try {
      if (!journal.ReadNew([&](std::string_view raw, Position at) { auditor.Read(raw, at); })) continue;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
      auditor.Damaged(error);
    }
    return auditor.Finish(journal);
  }
}

}  // namespace april::buffer
