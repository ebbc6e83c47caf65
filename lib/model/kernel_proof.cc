#include "model/kernel_proof.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "kernels/self_test.h"

namespace april::model {
namespace {

// A matrix's columns are cut into blocks that know nothing of one another: more of them would prove nothing.
constexpr int64_t kMostColumns = 2048;

kernels::SelfTestPlan PlanFor(const Config& config) {
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  std::set<std::pair<int64_t, int64_t>> shapes;
  for (const auto& [n, k] :
       {std::pair(q, config.hidden), std::pair(kv, config.hidden), std::pair(config.hidden, q), std::pair(config.intermediate, config.hidden),
        std::pair(config.hidden, config.intermediate), std::pair(config.vocab, config.hidden)}) {
    shapes.insert({std::min(n, kMostColumns), k});
  }
  kernels::SelfTestPlan plan{{}, config.heads, config.kv_heads, config.head_dim, config.vocab};
  for (const auto& [n, k] : shapes) plan.linears.push_back({n, k});
  return plan;
}

/// Model, microcode and features of the first processor.
std::string Processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string text;
  for (std::string line; std::getline(info, line) && !line.empty();) {
    const bool varies = line.starts_with("cpu MHz") || line.starts_with("bogomips") || line.starts_with("processor") || line.starts_with("core id") ||
                        line.starts_with("apicid") || line.starts_with("initial apicid") || line.starts_with("physical id");
    if (!varies) text += line + "\n";
  }
  return text;
}

/// What a proof holds for.
std::string Subject(const kernels::Kernels& kernels, int threads, const kernels::SelfTestPlan& plan) {
  const std::string program = ReadFile(SystemFiles(), "/proc/self/exe");
  std::string text = "program " + HexU64(Digest(program.data(), program.size())) + "\nset " + kernels.name + "\nthreads " + std::to_string(threads) +
                     "\nheads " + std::to_string(plan.heads) + " " + std::to_string(plan.kv_heads) + " " + std::to_string(plan.head_dim) +
                     "\nvocabulary " + std::to_string(plan.vocab) + "\n";
  for (const auto& shape : plan.linears) text += "linear " + std::to_string(shape.n) + " " + std::to_string(shape.k) + "\n";
  return text + Processor();
}

}  // namespace

std::string ProofDirectory() {
  for (const auto& [variable, folder] : {std::pair("XDG_CACHE_HOME", "april"), std::pair("HOME", ".cache/april")}) {
    const char* base = std::getenv(variable);
    if (base != nullptr && base[0] == '/') return JoinPath(base, folder);
  }
  return "";
}

void ProveKernels(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool, const std::string& directory) {
  const kernels::SelfTestPlan plan = PlanFor(config);
  const std::string subject = Subject(kernels, pool.num_threads(), plan);
  const std::string path = directory.empty() ? "" : JoinPath(directory, "kernels-" + HexU64(Digest(subject.data(), subject.size())));
  try {
    if (!path.empty() && SystemFiles().Exists(path) && ReadFile(SystemFiles(), path) == subject) return;
  } catch (const Error&) {  // what cannot be read is not there
  }
  log::Info(std::string("testing once that kernel set ") + kernels.name + " gives the same bits whatever runs together on this machine");
  const double begin_s = SystemClock().MonotonicSeconds();
  if (const std::string failure = kernels::SelfTest(kernels, pool, plan); !failure.empty()) {
    throw Error::Runtime(failure + ": log-probabilities would depend on what runs together",
                         "try --kernels portable, and report this with the output of lscpu");
  }
  log::Detail("the test took " + HumanSeconds(SystemClock().MonotonicSeconds() - begin_s));
  if (path.empty()) return;
  try {
    SystemFiles().MakeDirectory(directory);
    ReplaceFile(SystemFiles(), path, subject, /*durable=*/false);
  } catch (const Error& error) {
    log::Detail("the result is not remembered: " + error.message());
  }
}

}  // namespace april::model
