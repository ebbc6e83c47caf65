// Makes a damaged buffer sound again and deletes nothing. formats/buffer.md, "Repair".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"

namespace april::buffer {

struct RepairReport {
  std::vector<std::string> actions;  ///< what was found, and done about it
  std::vector<std::string> lost;     ///< entries behind damage that cannot stand any more: where, what, why
  int64_t followed = 0;              ///< entries behind damage that could
  std::string folder;                ///< where things were moved to, relative to the buffer; "" when nothing was
};

struct RepairOptions {
  bool dry_run = false;  ///< tells what it would do, changes nothing and takes no lock
  bool take_over = false;
  int64_t lock_timeout_ms = 30'000;
};

/// Durable when it returns; may be run again after a crash in the middle. Throws Runtime while a hub serves the buffer or another program has the
/// lock, Data when nothing sound is left to begin with, Incompatible for a newer format, Usage when there is no buffer.
RepairReport Repair(FileSystem& files, const Clock& clock, const std::string& directory, const RepairOptions& options);

}  // namespace april::buffer
