// How a program runs a command that lives in a module, without either knowing the other's world: no parser below, no tensors or records above.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"

namespace april {

/// What a command gets besides its options, and gives back besides its output.
struct Invocation {
  std::string tool, version;
  std::vector<std::string> argv;
  bool provenance = true;
  uint64_t seed = 0;
  std::function<bool(const std::string& option)> given = [](const std::string&) { return false; };  ///< by its long name
  std::function<void(const Json&)> metrics = [](const Json&) {};
  std::function<bool()> progress_due = [] { return false; };  ///< whether progress would show anything
  std::function<void(double done, double total, const std::string& text)> progress = [](double, double, const std::string&) {};
  std::string summary;  ///< the one line, right also when the command throws
  Json counts;          ///< the same numbers, for the one line of --metrics that a command writes at its end; null: none
  int exit_code = 0;

  /// The summary so far and its numbers, shown as progress too: `done` of `total` (0 = unknown).
  void Report(std::string line, Json numbers, int64_t done = 0, int64_t total = 0);
};

}  // namespace april
