#include "kernels/self_test.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "kernels/memory.h"

namespace april::kernels {
namespace {

constexpr int64_t kValuesPerShape = 1000000;
constexpr int64_t kRowCounts[] = {1, 2, 3, 5, 6, 8, 13, 16, 31, 64};

std::vector<float> RandomFloats(int64_t count, uint64_t seed) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(RandomUnit(seed, RandomUse::kTest, 0, i) * 2 - 1);
  return out;
}

Memory RandomElements(const Kernels& kernels, int64_t count, uint64_t seed) {
  Memory out(static_cast<size_t>(count * kernels.element_bytes));
  const std::vector<float> values = RandomFloats(count, seed);
  kernels.convert({values.data(), count, 1, count, nullptr, out.data(), count});
  return out;
}

bool Same(const void* a, const void* b, size_t bytes) { return std::memcmp(a, b, bytes) == 0; }

/// One linear, its column blocks handed out to the pool's threads.
void RunLinear(const Kernels& kernels, ThreadPool& pool, const Memory& x, int64_t rows, const Memory& packed, SelfTestPlan::Shape shape, float* out) {
  const int64_t blocks = (shape.n + kernels.column_block - 1) / kernels.column_block;
  pool.Run([&](ThreadPool::Worker& worker) {
    for (int64_t block = worker.NextTask(blocks); block >= 0; block = worker.NextTask(blocks)) {
      kernels.linear({x.data(), shape.k, rows, packed.data(), shape.n, shape.k, block, block + 1, out, shape.n, false});
    }
  });
}

std::string TestLinear(const Kernels& kernels, ThreadPool& pool, SelfTestPlan::Shape shape) {
  const int64_t rows = std::max<int64_t>(64, kValuesPerShape / shape.n + 1);
  const std::string what = "linear of " + std::to_string(shape.n) + " columns over " + std::to_string(shape.k);
  Memory x = RandomElements(kernels, rows * shape.k, 1), w = RandomElements(kernels, shape.n * shape.k, 2),
         packed(kernels.packed_bytes(shape.n, shape.k));
  kernels.pack({w.data(), shape.k, shape.n, shape.k, 0, packed.data()});
  const size_t row_bytes = static_cast<size_t>(shape.n) * 4;
  Memory expected(row_bytes * static_cast<size_t>(rows)), other(expected.size());
  RunLinear(kernels, pool, x, rows, packed, shape, expected.as<float>());
  RunLinear(PortableLike(kernels), pool, x, rows, packed, shape, other.as<float>());
  if (!Same(expected.data(), other.data(), expected.size())) return what + " differs from the portable set";
  for (int64_t count : kRowCounts) {
    std::memset(other.data(), 0, row_bytes * static_cast<size_t>(count));
    RunLinear(kernels, pool, x, count, packed, shape, other.as<float>());
    if (!Same(expected.data(), other.data(), row_bytes * static_cast<size_t>(count)))
      return what + " depends on the number of rows (" + std::to_string(count) + ")";
  }
  return "";
}

struct AttentionOutput {
  Memory out;
  std::vector<float> lse;
};

/// Rows [0, positions) stored and attended in steps of `chunk`, key heads handed out to the threads.
AttentionOutput RunAttention(const Kernels& kernels, ThreadPool& pool, const SelfTestPlan& plan, int64_t positions, int64_t chunk) {
  const int64_t q_width = plan.heads * plan.head_dim, kv_width = plan.kv_heads * plan.head_dim, element = kernels.element_bytes;
  Memory q = RandomElements(kernels, positions * q_width, 3), k = RandomElements(kernels, positions * kv_width, 4),
         v = RandomElements(kernels, positions * kv_width, 5);
  std::vector<int32_t> blocks(static_cast<size_t>((positions + kKvBlock - 1) / kKvBlock));
  // Another chunk size, another order of blocks.
  std::iota(blocks.begin(), blocks.end(), 0);
  std::rotate(blocks.begin(), blocks.begin() + chunk % static_cast<int64_t>(blocks.size()), blocks.end());
  const int64_t stride = static_cast<int64_t>(kernels.kv_block_bytes(plan.kv_heads, plan.head_dim));
  Memory keys(static_cast<size_t>(stride) * blocks.size()), values(keys.size());
  AttentionOutput result{Memory(static_cast<size_t>(positions * q_width * element)), std::vector<float>(static_cast<size_t>(positions * plan.heads))};
  for (int64_t first = 0; first < positions; first += chunk) {
    const int64_t rows = std::min(chunk, positions - first);
    kernels.store_kv({k.as<char>() + first * kv_width * element, kv_width, v.as<char>() + first * kv_width * element, kv_width, rows, first,
                      plan.kv_heads, plan.head_dim, keys.data(), values.data(), stride, blocks.data()});
    pool.Run([&](ThreadPool::Worker& worker) {
      for (int64_t head = worker.NextTask(plan.kv_heads); head >= 0; head = worker.NextTask(plan.kv_heads)) {
        kernels.attention({q.as<char>() + first * q_width * element, q_width, rows, first, plan.heads, plan.kv_heads, plan.head_dim, head, head + 1,
                           keys.data(), values.data(), stride, blocks.data(), 0.125f, result.out.as<char>() + first * q_width * element, q_width,
                           result.lse.data() + first * plan.heads, plan.heads});
      }
    });
  }
  return result;
}

std::string TestAttention(const Kernels& kernels, ThreadPool& pool, const SelfTestPlan& plan) {
  const int64_t positions = std::clamp<int64_t>(kValuesPerShape / (plan.heads * plan.head_dim), 200, 600);
  const AttentionOutput expected = RunAttention(PortableLike(kernels), pool, plan, positions, positions);
  for (int64_t chunk : {positions, int64_t{1}, int64_t{37}}) {
    const AttentionOutput other = RunAttention(kernels, pool, plan, positions, chunk);
    const bool same =
        Same(expected.out.data(), other.out.data(), other.out.size()) && Same(expected.lse.data(), other.lse.data(), other.lse.size() * 4);
    if (!same) return "attention in steps of " + std::to_string(chunk) + " rows differs from the portable set's";
  }
  return "";
}

std::string TestVocabulary(const Kernels& kernels, int64_t vocab) {
  const auto log_sum_exp = [vocab](const Kernels& set, const std::vector<float>& logits, std::vector<double>* weights) {
    std::vector<ChunkSums> chunks;
    for (int64_t first = 0; first < vocab; first += kVocabChunk) {
      chunks.push_back(set.sum_chunk({logits.data() + first, std::min(kVocabChunk, vocab - first), 8.0f, false}));
    }
    weights->resize(chunks.size());
    return set.join_chunks({chunks.data(), static_cast<int64_t>(chunks.size()), nullptr, weights->data(), nullptr});
  };
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const std::vector<float> logits = RandomFloats(vocab, 10 + seed);
    std::vector<double> weights, expected_weights;
    const float lse = log_sum_exp(kernels, logits, &weights), expected = log_sum_exp(PortableLike(kernels), logits, &expected_weights);
    if (!Same(&lse, &expected, 4) || !Same(weights.data(), expected_weights.data(), weights.size() * sizeof(double))) {
      return "log-sum-exp differs from the portable set";
    }
  }
  return "";
}

}  // namespace

std::string SelfTestLinears(const Kernels& kernels, ThreadPool& pool, const std::vector<SelfTestPlan::Shape>& shapes) {
  std::string failure;
  for (size_t i = 0; i < shapes.size() && failure.empty(); ++i) failure = TestLinear(kernels, pool, shapes[i]);
  return failure.empty() ? "" : std::string("kernel set ") + kernels.name + ": " + failure;
}

std::string SelfTest(const Kernels& kernels, ThreadPool& pool, const SelfTestPlan& plan) {
  FlushDenormals flush;
  std::string failure = TestVocabulary(kernels, plan.vocab);
  if (failure.empty()) failure = TestAttention(kernels, pool, plan);
  return failure.empty() ? SelfTestLinears(kernels, pool, plan.linears) : std::string("kernel set ") + kernels.name + ": " + failure;
}

}  // namespace april::kernels
