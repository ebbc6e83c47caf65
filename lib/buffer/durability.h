// When what was put becomes durable: what `--durability` says.
#pragma once

#include <cstdint>
#include <string>

namespace april::buffer {

/// Power that is lost may take with it what was not synced yet; a process that is killed takes nothing.
struct Durability {
  enum class Mode { kSync, kBatch, kOs };
  Mode mode = Mode::kSync;
  int64_t batch_ms = 0;  ///< kBatch: how long something may wait

  /// "sync", "batch:MS", "os". Throws Usage on another text.
  static Durability Parse(const std::string& text);
};

}  // namespace april::buffer
