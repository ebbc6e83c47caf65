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

struct LsOptions {
  StoreOption store;
  std::string state;
  bool groups = false, json = false;
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

struct AuditOptions {
  StoreOption store;
  bool json = false;
  void Register(OptionsVisitor& options);
};
void RunAudit(const AuditOptions& options, Invocation& invocation);

}  // namespace april::buffer
