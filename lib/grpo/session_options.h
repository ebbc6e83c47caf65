// What a trainer is told by its user: where from and where to, the method, the optimiser, the machine.
#pragma once

#include <cstdint>
#include <string>

#include "base/options.h"
#include "grpo/adapter.h"
#include "grpo/method.h"
#include "kernels/kernels.h"

namespace april::grpo {

struct SessionOptions {
  std::string from = "run/checkpoints";
  std::string publish = "run/weights";
  std::string model;
  int64_t checkpoint_every = 10;
  int64_t keep = 2;
  int64_t keep_versions = 4;
  int64_t micro_batch_tokens = 8192;
  uint64_t activation_bytes = uint64_t{2} << 30;
  std::string kernels = "auto";
  std::string precision = "auto";
  double matrix_peak = 0;
  int64_t replay = -1;  ///< a step to compute again; -1: none
  MethodOptions method;
  OptimizerOptions optimizer;
  AdapterOptions adapter;
  uint64_t seed = 0;  ///< of the adapter's first factors; not registered: every program has one
  void Register(OptionsVisitor& options);
};

/// The method, once all that can be refused on any machine, before anything is read, is found good. Throws Usage.
Method CheckedMethod(const SessionOptions& options);

/// The kernel set that these options choose.
const kernels::Kernels& KernelsOf(const SessionOptions& options);

}  // namespace april::grpo
