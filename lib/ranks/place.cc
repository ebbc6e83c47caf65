#include "ranks/place.h"

#include <cstdlib>

#include "base/error.h"

namespace april::ranks {
namespace {

constexpr int64_t kMaxRanks = 4096;
constexpr int64_t kDefaultPort = 29500;  // of the launchers that set MASTER_ADDR
constexpr int64_t kFirstSlurmPort = 20000, kNumSlurmPorts = 10000;

int64_t ParseNumber(const std::string& what, const std::string& text, int64_t min, int64_t max) {
  const bool digits = !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
  const int64_t value = digits ? std::stoll(text) : -1;
  if (!digits || value < min || value > max) {
    throw Error::Usage(what + " is '" + text + "', expected a number from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

void SetRank(const std::string& rank_name, const std::string& rank, const std::string& size_name, const std::string& size, Place* place) {
  place->size = static_cast<int>(ParseNumber(size_name, size, 1, kMaxRanks));
  place->rank = static_cast<int>(ParseNumber(rank_name, rank, 0, kMaxRanks));
  if (place->rank >= place->size) {
    throw Error::Usage(rank_name + " is " + rank + ", and there are " + size + " ranks", "ranks are numbered from 0");
  }
}

std::string NeedVariable(const Environment& environment, const char* name, const char* beside) {
  if (auto value = environment(name)) return *value;
  throw Error::Usage(std::string(beside) + " is set, and " + name + " is not", "set both, or give --rank R/N");
}

/// True when there are several ranks by these options and variables.
bool FindRank(const RankOptions& options, const Environment& environment, Place* place) {
  if (options.rank != "auto") {
    const size_t slash = options.rank.find('/');
    if (slash == std::string::npos) throw Error::Usage("--rank is '" + options.rank + "', expected R/N", "for example --rank 0/2 and --rank 1/2");
    SetRank("--rank", options.rank.substr(0, slash), "--rank's number of ranks", options.rank.substr(slash + 1), place);
  } else if (environment("RANK") || environment("WORLD_SIZE")) {
    SetRank("RANK", NeedVariable(environment, "RANK", "WORLD_SIZE"), "WORLD_SIZE", NeedVariable(environment, "WORLD_SIZE", "RANK"), place);
  } else if (const auto tasks = environment("SLURM_STEP_NUM_TASKS")) {  // a batch script has SLURM_NTASKS without being a task
    SetRank("SLURM_PROCID", NeedVariable(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), "SLURM_STEP_NUM_TASKS", *tasks, place);
  } else if (options.address != "auto") {
    throw Error::Usage("--rank-address is '" + options.address + "', and nothing says how many ranks there are",
                       "give each process --rank R/N, for example --rank 0/2 and --rank 1/2, or set RANK and WORLD_SIZE");
  }
  return place->size > 1;
}

void FindAddress(const RankOptions& options, const Environment& environment, Place* place) {
  const auto port = environment("MASTER_PORT");
  if (options.address != "auto") {
    const size_t colon = options.address.rfind(':');
    if (colon == std::string::npos || colon == 0) {
      throw Error::Usage("--rank-address is '" + options.address + "', expected HOST:PORT", "for example --rank-address localhost:29500");
    }
    place->host = options.address.substr(0, colon);
    place->port = static_cast<int>(ParseNumber("--rank-address's port", options.address.substr(colon + 1), 1, 65535));
    return;
  }
  const auto nodes = environment("SLURM_STEP_NODELIST");
  int64_t default_port = kDefaultPort;
  if (const auto job = environment("SLURM_JOB_ID"); job && nodes) {
    const int64_t step = ParseNumber("SLURM_STEP_ID", environment("SLURM_STEP_ID").value_or("0"), 0, INT64_C(1) << 40);
    default_port = kFirstSlurmPort + (ParseNumber("SLURM_JOB_ID", *job, 0, INT64_C(1) << 40) * 16 + step) % kNumSlurmPorts;
  }
  if (const auto host = environment("MASTER_ADDR")) {
    place->host = *host;
  } else if (nodes) {
    place->host = FirstHost(*nodes);
  } else {
    throw Error::Usage("there are " + std::to_string(place->size) + " ranks, and nothing says where rank 0 is",
                       "set MASTER_ADDR (and MASTER_PORT), or give --rank-address HOST:PORT");
  }
  place->port = static_cast<int>(port ? ParseNumber("MASTER_PORT", *port, 1, 65535) : default_port);
}

/// Slurm's number is of its task, which a batch script or an interactive step that starts the ranks has, too.
int FindLocalRank(const Environment& environment, const Place& place) {
  const bool is_task = environment("SLURM_STEP_NUM_TASKS") == std::to_string(place.size);
  const char* name = is_task && !environment("LOCAL_RANK") ? "SLURM_LOCALID" : "LOCAL_RANK";
  const auto value = environment(name);
  return value ? static_cast<int>(ParseNumber(name, *value, 0, kMaxRanks)) : place.rank;
}

}  // namespace

void RankOptions::Register(OptionsVisitor& options) {
  options.Section("Ranks: several processes that train together");
  options.Text("rank", &rank, "R/N",
               "this process is rank R of N, from 0; auto = RANK and WORLD_SIZE, or in a Slurm step SLURM_PROCID and SLURM_STEP_NUM_TASKS; without "
               "them it trains alone, as with 0/1. All ranks are given the same options; rank 0 alone reads, writes and publishes");
  options.Text("rank-address", &address, "HOST:PORT",
               "where rank 0 listens; auto = MASTER_ADDR and MASTER_PORT, or the Slurm step's first node and a port made from its number");
  options.Choice(
      "rank-backend", &backend, {"gloo", "nccl"},
      "what large exchanges between ranks go over: gloo = TCP; nccl = a GPU of each rank's own (LOCAL_RANK or SLURM_LOCALID says which), for "
      "machines whose fast network is the GPUs'. Small ones go over TCP with either, and sums have the same bits");
  options.Integer(
      "rank-timeout-s", &timeout_s, 1, 86'400,
      "exit 6 when another rank has been silent for so long; one that ends is noticed at once, and one that has not come after five times "
      "as long is not waited for");
  options.Integer("rank-patience-s", &patience_s, 60, 30 * 86'400,
                  "exit 6 when a rank that lives has not come to an exchange for so long: more than the ranks' shares of an update differ in time");
}

Environment ProcessEnvironment() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
  };
}

Place FindPlace(const RankOptions& options, const Environment& environment) {
  Place place;
  place.timeout_ms = options.timeout_s * 1000;
  place.patience_ms = options.patience_s * 1000;
  if (!FindRank(options, environment, &place)) return place;
  FindAddress(options, environment, &place);
  if (options.backend != "nccl") return place;
  place.backend = Backend::kNccl;
  place.local_rank = FindLocalRank(environment, place);
  return place;
}

std::string FirstHost(const std::string& node_list) {
  std::string host;
  for (size_t at = 0; at < node_list.size() && node_list[at] != ','; ++at) {
    if (node_list[at] != '[') {
      host += node_list[at];
      continue;
    }
    const size_t close = node_list.find(']', at);
    if (close == std::string::npos) throw Error::Usage("Slurm's list of nodes '" + node_list + "' has a bracket without its end");
    host += node_list.substr(at + 1, node_list.find_first_of(",-]", at) - at - 1);
    at = close;
  }
  return host;
}

}  // namespace april::ranks
