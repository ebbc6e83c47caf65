// Proof on the machine at hand that a kernel set keeps its promise: the portable set's bits, whatever the number of rows, the split and the threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"

namespace april::kernels {

struct SelfTestPlan {
  struct Shape {
    int64_t n, k;
  };
  std::vector<Shape> linears;  ///< of the model's weights; each is tested over at least a million outputs
  int64_t heads = 1, kv_heads = 1, head_dim = 64;
  int64_t vocab = 1024;
};

/// Empty when everything agreed; else what differed first, for a person to read. Takes seconds: callers cache it by processor, kernel set and
/// threads.
///   Thread  runs regions on the pool.
std::string SelfTest(const Kernels& kernels, ThreadPool& pool, const SelfTestPlan& plan);

/// The part of it that is about linear.
std::string SelfTestLinears(const Kernels& kernels, ThreadPool& pool, const std::vector<SelfTestPlan::Shape>& shapes);

}  // namespace april::kernels
