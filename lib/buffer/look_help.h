// What --help says of the subcommands that look, before their options.
#pragma once

namespace april::buffer {

struct CommandHelp {
  const char *name, *summary, *description;
};

extern const CommandHelp kLsHelp, kShowHelp, kStatHelp, kGrepHelp, kExportHelp, kAuditHelp, kVerifyHelp, kRepairHelp;

}  // namespace april::buffer
