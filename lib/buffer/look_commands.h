// The subcommands of partial-buffer that only look, and the one that puts right what they find. Without the parser: options, and what each does with
// them. All but repair read without a lock, also while a hub serves the buffer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/invocation.h"
#include "base/options.h"
#include "buffer/commands.h"

namespace april::buffer {

/// Which rollouts are meant: the same words for every command.
struct SelectOptions {
  std::string state;               ///< any of these, with commas between
  std::vector<std::string> where;  ///< all of these: COLUMN, a comparison, a value
  void Register(OptionsVisitor& options);
};

struct LsOptions {
  StoreOption store;
  SelectOptions select;
  std::string columns, sort;
  int64_t limit = 0;
  bool groups = false, reverse = false, json = false;
  void Register(OptionsVisitor& options);
};
void RunLs(const LsOptions& options, Invocation& invocation);

struct ShowOptions {
  StoreOption store;
  std::string uid, model;
  bool json = false;
  std::string color = "auto";
  void Register(OptionsVisitor& options);
};
void RunShow(const ShowOptions& options, Invocation& invocation);

struct StatOptions {
  StoreOption store;
  bool json = false;
  void Register(OptionsVisitor& options);
};
void RunStat(const StatOptions& options, Invocation& invocation);

struct GrepOptions {
  StoreOption store;
  SelectOptions select;
  std::string pattern, model;
  int64_t context = 0;
  bool prompts = false, ignore_case = false, count = false, json = false;
  void Register(OptionsVisitor& options);
};
void RunGrep(const GrepOptions& options, Invocation& invocation);

struct ExportOptions {
  StoreOption store;
  SelectOptions select;
  std::string out = "-", model;
  bool tokens = true, text = true, stream = false;
  void Register(OptionsVisitor& options);
};
void RunExport(const ExportOptions& options, Invocation& invocation);

struct AuditOptions {
  StoreOption store;
  bool json = false;
  void Register(OptionsVisitor& options);
};
void RunAudit(const AuditOptions& options, Invocation& invocation);

struct VerifyCommandOptions {
  StoreOption store;
  void Register(OptionsVisitor& options);
};
void RunVerify(const VerifyCommandOptions& options, Invocation& invocation);

struct RepairCommandOptions {
  StoreOption store;
  bool dry_run = false;
  void Register(OptionsVisitor& options);
};
void RunRepair(const RepairCommandOptions& options, Invocation& invocation);

}  // namespace april::buffer
