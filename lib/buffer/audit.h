// Proves from the journal alone that nothing was lost and nothing trained twice. formats/buffer.md, "Accounts".
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "buffer/findings.h"
#include "buffer/journal.h"
#include "buffer/ledger.h"

namespace april::buffer {

struct AuditReport {
  Accounts accounts;
  int64_t frames = 0, entries = 0, claims = 0, commits = 0;
  uint64_t torn_bytes = 0;  ///< of a transaction that nobody was told had happened
  Findings findings;
  bool Clean() const { return findings.empty(); }
};

/// Reads the journal without a lock, damaged or not: what is behind damage is not looked at. Throws Incompatible for a newer format, Usage when there
/// is no buffer.
AuditReport Audit(FileSystem& files, const std::string& directory);

/// "journal/00000003.zst, frame at offset 4096, entry at 120"
std::string DescribePosition(Position at);

/// What repair does about an entry that cannot stand where it is.
std::string CutRemedy(Position at);

}  // namespace april::buffer
