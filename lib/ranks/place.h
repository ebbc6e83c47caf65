// Where this process stands among those that train together: from an option, from Slurm, or from the variables that other launchers set.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/options.h"

namespace april::ranks {

struct RankOptions {
  std::string rank = "auto";
  std::string address = "auto";
  int64_t timeout_s = 60;
  int64_t patience_s = 30 * 60;
  std::string backend = "gloo";
  void Register(OptionsVisitor& options);
};

/// What large exchanges go over.
enum class Backend { kGloo, kNccl };

struct Place {
  int rank = 0, size = 1;
  std::string host;  ///< of rank 0; empty when there is one rank alone
  int port = 0;      ///< on which rank 0 listens
  int64_t timeout_ms = 60'000;
  int64_t patience_ms = 30 * 60'000;  ///< how long a rank that lives is waited for
  Backend backend = Backend::kGloo;
  int local_rank = 0;  ///< among those of this machine: which of the visible GPUs is its own, counted round
};

/// A variable's value; nullopt when it is not set.
using Environment = std::function<std::optional<std::string>(const char* name)>;
/// This process's variables.
Environment ProcessEnvironment();

/// The option before RANK and WORLD_SIZE before a Slurm step's variables; one rank alone when there is none of them.
///   Local rank  for nccl: LOCAL_RANK before a Slurm task's SLURM_LOCALID before the rank itself.
///   Address  the option before MASTER_ADDR and MASTER_PORT before the step's first node and a port made from the numbers of job and step.
///   Throws Usage naming the variable that is missing, is no number or contradicts another, and when an address is given but nothing says how many
///   ranks there are.
Place FindPlace(const RankOptions& options, const Environment& environment);

/// The first host of Slurm's short form: "node[003-006,9],login" is node003.
std::string FirstHost(const std::string& node_list);

}  // namespace april::ranks
