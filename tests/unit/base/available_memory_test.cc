#include "base/available_memory.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "../stream/temp_dir.h"
#include "base/error.h"

namespace april {
namespace {

void Write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST_CASE("available memory is the least that the machine and every control group leave") {
  test::TempDir scratch;
  const std::string proc = scratch.Path("proc"), groups = scratch.Path("cgroup");
  const auto available = [&] { return AvailableMemoryBytes(proc, groups); };
  CHECK(available() == std::numeric_limits<uint64_t>::max());
  Write(proc + "/meminfo", "MemTotal:       24000000 kB\nMemFree:  5 kB\nMemAvailable:   20000 kB\nBuffers: 7 kB\n");
  CHECK(available() == 20000 * 1024);

  // Version 2: a job without a limit in a group that has one. Caches that can be dropped do not count as used.
  Write(proc + "/self/cgroup", "0::/slurm/job_7\n");
  Write(groups + "/slurm/job_7/memory.max", "max\n");
  CHECK(available() == 20000 * 1024);
  Write(groups + "/slurm/memory.max", "9000000\n");
  Write(groups + "/slurm/memory.current", "5000000\n");
  Write(groups + "/slurm/memory.stat", "anon 1000000\ninactive_file 3000000\n");
  CHECK(available() == 7000000);
  Write(groups + "/slurm/job_7/memory.max", "6000000\n");
  Write(groups + "/slurm/job_7/memory.current", "7000000\n");  // above a limit that was lowered
  CHECK(available() == 0);

  // Version 1, in a container: the path is the host's, and only its root is there.
  Write(proc + "/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n");
  Write(groups + "/memory/memory.limit_in_bytes", "8000000\n");
  Write(groups + "/memory/memory.usage_in_bytes", "2000000\n");
  Write(groups + "/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 500000\n");
  CHECK(available() == 6500000);
  Write(groups + "/memory/memory.limit_in_bytes", "9223372036854771712\n");  // none
  CHECK(available() == 20000 * 1024);
}

TEST_CASE("this machine says how much memory is available") {
  CHECK(AvailableMemoryBytes() > 0);
  CHECK(AvailableMemoryBytes() < std::numeric_limits<uint64_t>::max());
}

}  // namespace

TEST_CASE("what needs more memory than there is is refused, with what, how much and what to do") {
  CHECK_NOTHROW(RequireMemory(1, "this", "nothing"));
  try {
    RequireMemory(std::numeric_limits<uint64_t>::max() / 4, "training this model", "a smaller model");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
    CHECK_THAT(error.message(), Catch::StartsWith("training this model needs ") && Catch::EndsWith(" is available"));
    CHECK(error.hint() == "a smaller model");
  }
}

}  // namespace april
