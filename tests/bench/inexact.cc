// What exactness costs: a decode step of the engine against one that need not be exact, in turns in one process; one JSON line a round.
//   usage: bench_inexact MODEL THREADS BATCH CONTEXT [ROUNDS]
// The other step has the engine's threads, barriers, elementwise kernels, weights and batch. Its products are oneDNN's at their natural row counts,
// for each of the five shapes the faster of two: the packed linear that LibTorch compiles models to (bf16 results, which are widened to the f32 that
// the elementwise kernels take: in the engine's favour, up to a hundredth of the step), and the matrix micro-kernel on blocks of 64 columns. Its
// attention is LibTorch's flash attention, one call a thread and layer over keys and values that lie in order, without blocks. In its favour: query,
// key and value are one product, gate and up another; every thread has a fixed half of each; all contexts have one length; the query heads of a key
// head are passed as rows, so that no key is copied. Neither step takes logarithms of sums or samples.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/CPUBlas.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kernels/memory.h"
#include "model/forward.h"
#include "model/rope.h"

namespace april::model {
namespace {

using kernels::Kernels;
using Worker = kernels::ThreadPool::Worker;

double Now() { return SystemClock().MonotonicSeconds(); }

at::Tensor ReadMatrix(const weights::ModelFiles& files, const std::string& name, int64_t n, int64_t k) {
  at::Tensor matrix = at::empty({n, k}, at::kBFloat16);
  files.Read(name, {n, k}, weights::DType::kBf16, matrix.data_ptr());
  return matrix;
}

std::vector<float> ReadVector(const weights::ModelFiles& files, const std::string& name, int64_t n) {
  std::vector<float> vector(static_cast<size_t>(n));
  files.Read(name, {n}, weights::DType::kF32, vector.data());
  return vector;
}

/// One thread's columns of a product, laid out for both of oneDNN's ways.
class Product {
 public:
  enum class Way { kLinear, kMicroKernel };

  Product() = default;
  explicit Product(const at::Tensor& w) : n_(w.size(0)), k_(w.size(1)) {
    static const auto reorder = c10::Dispatcher::singleton()
                                    .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                                    .typed<at::Tensor(const at::Tensor&, std::optional<int64_t>)>();
    packed_ = reorder.call(w, std::nullopt);
    // [block][pair of the reduction][column][2]
    std::vector<at::Tensor> blocks;
    for (int64_t column = 0; column < n_; column += kColumns) {
      const at::Tensor block = w.slice(0, column, std::min(n_, column + kColumns));
      blocks.push_back(block.reshape({block.size(0), k_ / 2, 2}).transpose(0, 1).contiguous().flatten());
    }
    pairs_ = at::cat(blocks);
  }

  /// out[rows, n] (=, or += with `add`) x W^T. `wide` is scratch for n floats.
  void Multiply(Way way, const Kernels& kernels, const at::BFloat16* x, int64_t rows, float* out, int64_t out_stride, bool add, float* wide) const {
    if (way == Way::kMicroKernel) return MultiplyBlocks(x, rows, out, out_stride, add);
    static const auto linear = c10::Dispatcher::singleton()
                                   .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                                   .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                                                     c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>)>();
    const at::Tensor in = at::from_blob(const_cast<at::BFloat16*>(x), {rows, k_}, at::kBFloat16);
    const at::Tensor y = linear.call(in, packed_, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
    const auto* from = y.const_data_ptr<at::BFloat16>();
    for (int64_t r = 0; r < rows; ++r) {
      kernels.to_float(from + r * n_, add ? wide : out + r * out_stride, n_);
      if (add) kernels.add(wide, out + r * out_stride, n_);
    }
  }

 private:
  static constexpr int64_t kColumns = 64, kRows = 32;

  void MultiplyBlocks(const at::BFloat16* x, int64_t rows, float* out, int64_t out_stride, bool add) const {
    const auto* w = pairs_.const_data_ptr<at::BFloat16>();
    for (int64_t column = 0; column < n_; column += kColumns) {
      const int64_t columns = std::min(kColumns, n_ - column);
      for (int64_t row = 0; row < rows; row += kRows) {
        at::native::cpublas::brgemm(std::min(kRows, rows - row), columns, k_, k_, columns, out_stride, add, x + row * k_, w + column * k_,
                                    out + row * out_stride + column);
      }
    }
    at::native::cpublas::brgemm_release();
  }

  int64_t n_ = 0, k_ = 0;
  at::Tensor packed_, pairs_;
};

enum Kind { kQkv, kOut, kGateUp, kDown, kHead, kKinds };

struct Layer {
  std::vector<float> norm1, norm2;
  std::array<std::vector<Product>, kHead> products;  ///< by kind and thread
  at::Tensor keys, values;                           ///< bf16 [batch * kv_heads, 1, positions, head_dim]
};

class InexactStep {
 public:
  InexactStep(const Config& config, const weights::ModelFiles& files, const Kernels& kernels, kernels::ThreadPool& pool, int64_t batch,
              int64_t context)
      : config_(config), kernels_(kernels), pool_(pool), batch_(batch), context_(context), rope_(config) {
    rope_.Extend(context + 1);
    positions_.assign(static_cast<size_t>(batch), static_cast<int32_t>(context));
    ways_.fill(Product::Way::kLinear);
    embedding_ = ReadMatrix(files, "model.embed_tokens.weight", config.vocab, config.hidden);
    head_ = Parts(config.tied_embeddings ? embedding_ : ReadMatrix(files, "lm_head.weight", config.vocab, config.hidden));
    final_norm_ = ReadVector(files, "model.norm.weight", config.hidden);
    for (int64_t i = 0; i < config.layers; ++i) layers_.push_back(Read(files, "model.layers." + std::to_string(i) + "."));
    x_.resize(static_cast<size_t>(batch * config.hidden));
    qkv_.resize(static_cast<size_t>(batch * QkvColumns()));
    h_ = at::zeros({batch, config.hidden}, at::kBFloat16);
    q_ = at::zeros({batch, config.kv_heads, config.heads / config.kv_heads, config.head_dim}, at::kBFloat16);
    k_ = at::zeros({batch, config.kv_heads, config.head_dim}, at::kBFloat16);
    attended_ = at::zeros_like(q_);
    act_ = at::zeros({batch, config.intermediate}, at::kBFloat16);
    for (int i = 0; i < pool.num_threads(); ++i) {
      wide_.emplace_back(static_cast<size_t>(config.hidden));
      gate_up_.emplace_back(static_cast<size_t>(batch * 2 * config.intermediate));
      few_rows_.push_back(at::zeros_like(h_));
    }
    pool.Run([](Worker&) { at::set_num_threads(1); });  // inside each of the pool's
  }

  /// Takes each product the faster way; both are tried in whole steps, so that weights come from memory.
  void Choose(float* logits) {
    std::array<std::array<double, kKinds>, 2> best;
    for (const Product::Way way : {Product::Way::kLinear, Product::Way::kMicroKernel}) {
      auto& times = best[static_cast<size_t>(way)];
      times.fill(1e9);
      ways_.fill(way);
      for (int i = 0; i < 8; ++i) {
        seconds_.fill(0);
        Run(logits);
        for (size_t kind = 0; kind < kKinds; ++kind) times[kind] = std::min(times[kind], seconds_[kind]);
      }
    }
    for (size_t kind = 0; kind < kKinds; ++kind) ways_[kind] = best[0][kind] <= best[1][kind] ? Product::Way::kLinear : Product::Way::kMicroKernel;
  }

  std::string ways() const {
    std::string text;
    for (const Product::Way way : ways_) text += way == Product::Way::kLinear ? 'l' : 'm';
    return text;
  }

  void Run(float* logits) {
    pool_.Run([&](Worker& worker) {
      const c10::InferenceMode inference;
      Step(worker, logits);
    });
  }

 private:
  struct Range {
    int64_t begin, end;
  };

  int64_t QkvColumns() const { return (config_.heads + 2 * config_.kv_heads) * config_.head_dim; }
  /// One thread's part of [0, count), at multiples of `unit`.
  Range Part(int64_t count, int64_t thread, int64_t unit = 1) const {
    const int64_t units = (count + unit - 1) / unit, threads = pool_.num_threads();
    return {std::min(count, units * thread / threads * unit), std::min(count, units * (thread + 1) / threads * unit)};
  }
  Range ColumnsOf(int64_t columns, int64_t thread) const { return Part(columns, thread, 32); }

  std::vector<Product> Parts(const at::Tensor& w) const {
    std::vector<Product> parts;
    for (int64_t thread = 0; thread < pool_.num_threads(); ++thread) {
      const Range range = ColumnsOf(w.size(0), thread);
      parts.emplace_back(w.slice(0, range.begin, range.end));
    }
    return parts;
  }

  Layer Read(const weights::ModelFiles& files, const std::string& prefix) const {
    const int64_t hidden = config_.hidden, inner = config_.intermediate, q = config_.heads * config_.head_dim,
                  kv = config_.kv_heads * config_.head_dim;
    const auto matrix = [&](const char* name, int64_t n, int64_t k) { return ReadMatrix(files, prefix + name, n, k); };
    Layer layer;
    layer.norm1 = ReadVector(files, prefix + "input_layernorm.weight", hidden);
    layer.norm2 = ReadVector(files, prefix + "post_attention_layernorm.weight", hidden);
    layer.products[kQkv] = Parts(at::cat({matrix("self_attn.q_proj.weight", q, hidden), matrix("self_attn.k_proj.weight", kv, hidden),
                                          matrix("self_attn.v_proj.weight", kv, hidden)}));
    layer.products[kOut] = Parts(matrix("self_attn.o_proj.weight", hidden, q));
    layer.products[kDown] = Parts(matrix("mlp.down_proj.weight", hidden, inner));
    const at::Tensor gate = matrix("mlp.gate_proj.weight", inner, hidden), up = matrix("mlp.up_proj.weight", inner, hidden);
    for (int64_t thread = 0; thread < pool_.num_threads(); ++thread) {  // the same columns of both, so that one thread can go on with them
      const Range range = ColumnsOf(inner, thread);
      layer.products[kGateUp].emplace_back(at::cat({gate.slice(0, range.begin, range.end), up.slice(0, range.begin, range.end)}));
    }
    layer.keys = at::empty({batch_ * config_.kv_heads, 1, context_ + 1, config_.head_dim}, at::kBFloat16);
    layer.values = at::empty_like(layer.keys);
    std::memset(layer.keys.data_ptr(), 0x3c, layer.keys.nbytes());
    std::memset(layer.values.data_ptr(), 0x3c, layer.values.nbytes());
    return layer;
  }

  void Multiply(Worker& worker, Kind kind, const std::vector<Product>& parts, const at::Tensor& x, float* out, int64_t out_stride, bool add) {
    const auto thread = static_cast<size_t>(worker.index());
    const double begin = Now();
    parts[thread].Multiply(ways_[kind], kernels_, x.const_data_ptr<at::BFloat16>(), batch_, out, out_stride, add, wide_[thread].data());
    if (thread == 0) seconds_[kind] += Now() - begin;
  }

  /// As in the engine: a few rows every thread normalises for itself.
  const at::Tensor& Norm(Worker& worker, const std::vector<float>& weight) {
    constexpr int64_t kFewRows = 8;
    const bool few = batch_ <= kFewRows;
    at::Tensor& out = few ? few_rows_[static_cast<size_t>(worker.index())] : h_;
    const Range rows = few ? Range{0, batch_} : Part(batch_, worker.index());
    const int64_t n = config_.hidden;
    kernels_.rms_norm({x_.data() + rows.begin * n, n, rows.end - rows.begin, n, weight.data(), static_cast<float>(config_.rms_eps),
                       out.data_ptr<at::BFloat16>() + rows.begin * n, n, nullptr});
    if (!few) worker.Barrier();
    return out;
  }

  /// Rotates, stores and attends for a thread's (sequence, key head) pairs.
  void Attend(Worker& worker, Layer& layer) {
    const Range pairs = Part(batch_ * config_.kv_heads, worker.index());
    if (pairs.begin == pairs.end) return;
    const int64_t dim = config_.head_dim, group = config_.heads / config_.kv_heads, kv_heads = config_.kv_heads, stride = (context_ + 1) * dim;
    auto *q = q_.data_ptr<at::BFloat16>(), *k = k_.data_ptr<at::BFloat16>();
    for (int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
      const int64_t row = pair / kv_heads, head = pair % kv_heads;
      const float* from = qkv_.data() + row * QkvColumns();
      const auto rotate = [&](const float* x, int64_t heads, at::BFloat16* out) {
        kernels_.rope({x, QkvColumns(), 1, positions_.data(), heads, dim, rope_.Row(0), nullptr, nullptr, 0, out, heads * dim});
      };
      rotate(from + head * group * dim, group, q + pair * group * dim);
      rotate(from + (config_.heads + head) * dim, 1, k + pair * dim);
      std::memcpy(layer.keys.data_ptr<at::BFloat16>() + pair * stride + context_ * dim, k + pair * dim, static_cast<size_t>(dim) * 2);
      kernels_.convert({from + (config_.heads + kv_heads + head) * dim, dim, 1, dim, nullptr,
                        layer.values.data_ptr<at::BFloat16>() + pair * stride + context_ * dim, dim});
    }
    const int64_t count = pairs.end - pairs.begin;
    const at::Tensor queries = q_.view({batch_ * kv_heads, 1, group, dim}).narrow(0, pairs.begin, count);
    const auto result = at::_scaled_dot_product_flash_attention_for_cpu(queries, layer.keys.narrow(0, pairs.begin, count),
                                                                        layer.values.narrow(0, pairs.begin, count));
    const at::Tensor out = std::get<0>(result).contiguous();
    std::memcpy(attended_.data_ptr<at::BFloat16>() + pairs.begin * group * dim, out.data_ptr(), out.nbytes());
  }

  void GateUp(Worker& worker, const Layer& layer, const at::Tensor& h) {
    const Range range = ColumnsOf(config_.intermediate, worker.index());
    const int64_t columns = range.end - range.begin;
    float* product = gate_up_[static_cast<size_t>(worker.index())].data();
    Multiply(worker, kGateUp, layer.products[kGateUp], h, product, 2 * columns, false);
    kernels_.silu({product, product + columns, 2 * columns, batch_, columns, act_.data_ptr<at::BFloat16>() + range.begin, config_.intermediate});
  }

  void Step(Worker& worker, float* logits) {
    const int64_t hidden = config_.hidden, thread = worker.index();
    const Range rows = Part(batch_, thread);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      kernels_.to_float(embedding_.const_data_ptr<at::BFloat16>() + r * hidden, x_.data() + r * hidden, hidden);
    }
    worker.Barrier();
    const int64_t hidden_begin = ColumnsOf(hidden, thread).begin;
    for (Layer& layer : layers_) {
      Multiply(worker, kQkv, layer.products[kQkv], Norm(worker, layer.norm1), qkv_.data() + ColumnsOf(QkvColumns(), thread).begin, QkvColumns(),
               false);
      worker.Barrier();
      Attend(worker, layer);
      worker.Barrier();
      Multiply(worker, kOut, layer.products[kOut], attended_, x_.data() + hidden_begin, hidden, true);
      worker.Barrier();
      GateUp(worker, layer, Norm(worker, layer.norm2));
      worker.Barrier();
      Multiply(worker, kDown, layer.products[kDown], act_, x_.data() + hidden_begin, hidden, true);
      worker.Barrier();
    }
    Multiply(worker, kHead, head_, Norm(worker, final_norm_), logits + ColumnsOf(config_.vocab, thread).begin, config_.vocab, false);
  }

  const Config config_;
  const Kernels& kernels_;
  kernels::ThreadPool& pool_;
  const int64_t batch_, context_;
  RopeTable rope_;
  std::vector<int32_t> positions_;
  at::Tensor embedding_, h_, q_, k_, attended_, act_;
  std::vector<at::Tensor> few_rows_;
  std::vector<float> final_norm_, x_, qkv_;
  std::vector<std::vector<float>> wide_, gate_up_;  // by thread
  std::vector<Product> head_;
  std::vector<Layer> layers_;
  std::array<Product::Way, kKinds> ways_;
  std::array<double, kKinds> seconds_{};  // of the first thread
};

class ExactStep {
 public:
  ExactStep(const Config& config, const weights::ModelFiles& files, const Kernels& kernels, kernels::ThreadPool& pool, int64_t batch, int64_t context)
      : policy_(Policy::Load(files, kernels, pool)),
        cache_(config, kernels, batch * KvCache::BlocksFor(context + 1)),
        forward_(config, kernels, pool),
        sequences_(static_cast<size_t>(batch)) {
    for (int64_t layer = 0; layer < config.layers; ++layer) {
      std::memset(cache_.KeyBase(layer), 0x3c, static_cast<size_t>(cache_.num_blocks() * cache_.block_stride_bytes()));
    }
    for (Sequence& sequence : sequences_) {
      cache_.Reserve(&sequence, context + 1);
      rows_.push_back({static_cast<uint32_t>(rows_.size()), static_cast<int32_t>(context), &sequence, true});
    }
  }

  void Run(float* logits) { forward_.Run(*policy_, cache_, rows_, logits); }

 private:
  std::shared_ptr<const Policy> policy_;
  KvCache cache_;
  Forward forward_;
  std::vector<Sequence> sequences_;
  std::vector<Row> rows_;
};

/// Of the two, as a share of the norm.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    square += x * x;
    difference += (x - y) * (x - y);
  }
  return std::sqrt(difference / square);
}

int Main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: bench_inexact MODEL THREADS BATCH CONTEXT [ROUNDS]\n");
    return 2;
  }
  const int64_t batch = std::atoll(argv[3]), context = std::atoll(argv[4]), rounds = argc > 5 ? std::atoll(argv[5]) : 5;
  const auto files = weights::ModelFiles::Open(argv[1]);
  const Config config = Config::FromJson(files->config());
  if (config.attention_bias || config.qk_norm) {
    std::fprintf(stderr, "bench_inexact: only models without biases and norms of heads\n");
    return 2;
  }
  kernels::ThreadPool pool(std::atoi(argv[2]));
  const Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kBf16);
  ExactStep exact(config, *files, kernels, pool, batch, context);
  InexactStep inexact(config, *files, kernels, pool, batch, context);
  std::vector<float> logits(static_cast<size_t>(batch * config.vocab)), other(logits.size());
  inexact.Choose(other.data());
  exact.Run(logits.data());
  inexact.Run(other.data());
  // Both compute the same model, or there is nothing to compare; rounding products to bf16 moves logits by some hundredths.
  const double off = Distance(logits, other);
  if (!(off < 0.2)) {
    std::fprintf(stderr, "bench_inexact: the two steps' logits differ by %.3f of their norm, with products %s\n", off, inexact.ways().c_str());
    return 1;
  }
  for (int64_t round = 0; round < rounds; ++round) {
    double exact_s = 1e9, inexact_s = 1e9;
    for (const double begin = Now(); Now() - begin < 1.5;) {
      const double first = Now();
      exact.Run(logits.data());
      const double second = Now();
      inexact.Run(other.data());
      exact_s = std::min(exact_s, second - first);
      inexact_s = std::min(inexact_s, Now() - second);
    }
    std::printf("{\"batch\":%ld,\"context\":%ld,\"exact_s\":%.6f,\"inexact_s\":%.6f,\"products\":\"%s\",\"logits_off\":%.4f}\n", batch, context,
                exact_s, inexact_s, inexact.ways().c_str(), off);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace april::model

int main(int argc, char** argv) { return april::model::Main(argc, argv); }
