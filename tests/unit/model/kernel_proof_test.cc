#include "model/kernel_proof.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "../stream/temp_dir.h"
#include "base/error.h"
#include "tiny_model.h"

namespace april::model {
namespace {

const kernels::Kernels* g_healthy = nullptr;
int g_calls = 0;

void CountedLinear(const kernels::LinearArgs& args) {
  ++g_calls;
  g_healthy->linear(args);
}

/// As in a library that chooses another order for many rows.
void LinearThatDependsOnRows(const kernels::LinearArgs& args) {
  g_healthy->linear(args);
  if (args.rows == 13 && args.block_begin == 0) args.out[0] += 1;
}

TEST_CASE("a kernel set is tested once a machine and number of threads; what fails is refused each time") {
  test::TempDir scratch;
  const std::string directory = scratch.Path("cache/april");
  kernels::ThreadPool one(1), two(2);
  g_healthy = &kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  kernels::Kernels counted = *g_healthy;
  counted.linear = CountedLinear;
  const auto tested = [&](kernels::ThreadPool& pool) {
    g_calls = 0;
    ProveKernels(TinyConfig(), counted, pool, directory);
    return g_calls > 0;
  };
  CHECK(tested(one));
  CHECK(!tested(one));
  CHECK(tested(two));
  for (const auto& entry : std::filesystem::directory_iterator(directory)) std::ofstream(entry.path()) << "cut";
  CHECK(tested(one));

  kernels::Kernels broken = *g_healthy;
  broken.name = "broken";
  broken.linear = LinearThatDependsOnRows;
  for (int time = 0; time < 2; ++time) CHECK_THROWS_WITH(ProveKernels(TinyConfig(), broken, one, directory), Catch::Contains("number of rows (13)"));
}

TEST_CASE("where nothing can be remembered, kernels are tested each time") {
  test::TempDir scratch;
  std::ofstream(scratch.Path("file")) << "no directory";
  kernels::ThreadPool pool(1);
  g_healthy = &kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  kernels::Kernels counted = *g_healthy;
  counted.linear = CountedLinear;
  for (const std::string& directory : {std::string(), scratch.Path("file/april")}) {
    g_calls = 0;
    ProveKernels(TinyConfig(), counted, pool, directory);
    CHECK(g_calls > 0);
  }
}

}  // namespace
}  // namespace april::model
