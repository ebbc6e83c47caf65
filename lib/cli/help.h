// --help from the same table that is parsed.
#pragma once

#include <string>

#include "cli/main.h"
#include "cli/option_table.h"

namespace april::cli {

/// The whole help page of a program without subcommands, or of one subcommand. `width` in columns.
std::string HelpText(const Program& program, const Command& command, const OptionTable& own, const OptionTable& common, size_t width);

/// The overview of a program with subcommands.
std::string OverviewText(const Program& program, size_t width);

}  // namespace april::cli
