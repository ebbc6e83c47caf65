// Which rank this process is, by options and variables.
#include "ranks/place.h"

#include <catch2/catch.hpp>
#include <map>

#include "base/error.h"

using namespace april;
using namespace april::ranks;

namespace {

Place Find(std::map<std::string, std::string> variables, const RankOptions& options = {}) {
  return FindPlace(options, [&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

std::map<std::string, std::string> SlurmTask() {
  return {{"SLURM_PROCID", "3"},
          {"SLURM_STEP_NUM_TASKS", "8"},
          {"SLURM_STEP_NODELIST", "gpu[007-010],login"},
          {"SLURM_JOB_ID", "123456"},
          {"SLURM_STEP_ID", "1"}};
}

}  // namespace

TEST_CASE("without any variable a process is alone, also in a Slurm batch script, which is no task") {
  CHECK(Find({}).size == 1);
  CHECK(Find({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "5"}, {"SLURM_JOB_NODELIST", "a[1-8]"}}).size == 1);
  CHECK(Find(SlurmTask(), {"0/1"}).size == 1);
}

TEST_CASE("a Slurm step says everything") {
  const Place place = Find(SlurmTask());
  CHECK(place.rank == 3);
  CHECK(place.size == 8);
  CHECK(place.host == "gpu007");
  CHECK(place.port == 20000 + (123456 * 16 + 1) % 10000);
  CHECK(place.timeout_ms == 60'000);
  auto variables = SlurmTask();
  variables["SLURM_STEP_ID"] = "2";
  CHECK(Find(variables).port == place.port + 1);  // two steps of a job do not meet
  variables["MASTER_ADDR"] = "10.0.0.7";
  CHECK(Find(variables).host == "10.0.0.7");
}

TEST_CASE("which GPU of its machine is a rank's own: LOCAL_RANK before a Slurm task's number before its rank") {
  std::map<std::string, std::string> variables = {{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "a"}};
  RankOptions options;
  CHECK(Find(variables, options).backend == Backend::kGloo);
  options.backend = "nccl";
  CHECK(Find(variables, options).backend == Backend::kNccl);
  CHECK(Find(variables, options).local_rank == 5);
  variables["SLURM_LOCALID"] = "2";  // of a batch script, too
  CHECK(Find(variables, options).local_rank == 5);
  variables["SLURM_STEP_NUM_TASKS"] = "1";  // of an interactive step
  CHECK(Find(variables, options).local_rank == 5);
  variables["SLURM_STEP_NUM_TASKS"] = "8";
  CHECK(Find(variables, options).local_rank == 2);
  variables["LOCAL_RANK"] = "1";
  CHECK(Find(variables, options).local_rank == 1);
  variables["LOCAL_RANK"] = "x";
  CHECK_THROWS_WITH(Find(variables, options), "LOCAL_RANK is 'x', expected a number from 0 to 4096");
  CHECK(Find(variables).rank == 5);  // nothing that Gloo needs
}

TEST_CASE("RANK and WORLD_SIZE go before Slurm, options before both") {
  auto variables = SlurmTask();
  variables.insert({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1234"}});
  Place place = Find(variables);
  CHECK(place.rank == 1);
  CHECK(place.size == 2);
  CHECK(place.host == "a");
  CHECK(place.port == 1234);
  place = Find(variables, {"2/3", "[::1]:77", 5, 90});
  CHECK(place.rank == 2);
  CHECK(place.size == 3);
  CHECK(place.host == "[::1]");
  CHECK(place.port == 77);
  CHECK(place.timeout_ms == 5'000);
  CHECK(place.patience_ms == 90'000);
  CHECK(Find({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}).port == 29500);
}

TEST_CASE("what contradicts itself is a usage error that names the variable") {
  CHECK_THROWS_WITH(Find({{"RANK", "0"}}), "RANK is set, and WORLD_SIZE is not");
  CHECK_THROWS_WITH(Find({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), "RANK is 2, and there are 2 ranks");
  CHECK_THROWS_WITH(Find({{"RANK", "x"}, {"WORLD_SIZE", "2"}}), Catch::StartsWith("RANK is 'x', expected a number"));
  CHECK_THROWS_WITH(Find({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), "there are 2 ranks, and nothing says where rank 0 is");
  CHECK_THROWS_WITH(Find({}, {"1"}), "--rank is '1', expected R/N");
  CHECK_THROWS_WITH(Find({}, {"auto", "host:77"}), "--rank-address is 'host:77', and nothing says how many ranks there are");
  CHECK(Find({}, {"0/1", "host:77"}).size == 1);  // that is said
  CHECK_THROWS_WITH(Find({}, {"0/2", "host"}), "--rank-address is 'host', expected HOST:PORT");
  CHECK_THROWS_WITH(Find({}, {"0/2", "host:0"}), Catch::StartsWith("--rank-address's port is '0'"));
}

TEST_CASE("the first host of a list of nodes") {
  CHECK(FirstHost("node1") == "node1");
  CHECK(FirstHost("node1,node2") == "node1");
  CHECK(FirstHost("node[003-006,9],x") == "node003");
  CHECK(FirstHost("node[3]") == "node3");
  CHECK(FirstHost("rack[2-3]-node[10-12]") == "rack2-node10");
  CHECK(FirstHost("rack[2,3]n[1,2],other[1-2]") == "rack2n1");
  CHECK_THROWS_WITH(FirstHost("node[3"), Catch::Contains("a bracket without its end"));
}
