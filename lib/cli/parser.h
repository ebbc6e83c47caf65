// The CLI11 adapter: arguments in, option variables set.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "cli/main.h"
#include "cli/option_table.h"

namespace april::cli {

enum class ParseOutcome { kRun, kHelp, kVersion, kPrintConfig };

struct Parsed {
  ParseOutcome outcome = ParseOutcome::kRun;
  const Command* command = nullptr;  ///< nullptr: help was asked for before a subcommand
  std::string config_text;           ///< for kPrintConfig: what --config reads back
  bool verbose = false, quiet = false;
  std::set<std::string> given;  ///< see Context::Given
};

/// Options of the chosen command and the common ones are in `own` and `common` afterwards (for --help). Throws Usage.
Parsed Parse(const Program& program, const std::vector<std::string>& arguments, CommonOptions* common_options, OptionTable* own, OptionTable* common);

}  // namespace april::cli
