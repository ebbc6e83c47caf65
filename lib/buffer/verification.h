// Reads every byte of a buffer, also behind damage, and tells all of it. formats/buffer.md, "Torn or damaged".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "buffer/buffer_manifest.h"
#include "buffer/entries.h"
#include "buffer/findings.h"

namespace april::buffer {

struct VerifyReport {
  int64_t segments = 0, frames = 0, entries = 0, payloads = 0, rollouts = 0;
  uint64_t bytes = 0;
  Findings findings;
  std::vector<std::string> notes;  ///< what is no damage: retired files, files that nothing names
};

struct VerifyOptions {
  int64_t patience_ms = 1000;  ///< how long the end may be what a writer is just writing
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress = [](uint64_t, uint64_t) {};
};

/// Reads without a lock. Throws Incompatible for a newer format, Usage when there is no buffer.
VerifyReport Verify(FileSystem& files, const Clock& clock, const std::string& directory, const VerifyOptions& options = {});

/// What repair does about a manifest that cannot be read.
inline constexpr char kManifestRemedy[] = "keep the damaged one aside, and name the files of journal/ that continue each other in a new one";

/// What an entry says of its payload and the payload does not bear out; "" when all is well.
std::string CheckEntry(const DecodedEntry& decoded);

/// Files of journal/ that the manifest does not name, retired ones left out: "journal/00000009.zst".
std::vector<std::string> UnnamedFiles(FileSystem& files, const std::string& directory, const Manifest& manifest);

}  // namespace april::buffer
