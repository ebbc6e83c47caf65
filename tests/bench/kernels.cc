// What the machine can do and what share of it the kernels reach, one JSON line a figure.
//   usage: bench_kernels [KERNEL SET] [PART OF A FIGURE'S NAME]
// The limits are measured in the same run: bytes read per second, and bf16 products per second of a loop that touches registers only.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "kernels/peak.h"
#include "kernels/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace april::kernels {
namespace {

double Now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Seconds of one call: the best of several. With one thread its CPU time, which neighbours on the machine disturb less; else wall clock.
double Best(const std::function<void()>& call, int threads = 1, double budget = 0.3) {
  const clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  call();
  double best = 1e9;
  const double begin = Now(CLOCK_MONOTONIC);
  do {
    const double start = Now(clock);
    call();
    best = std::min(best, Now(clock) - start);
  } while (Now(CLOCK_MONOTONIC) - begin < budget);
  return best;
}

std::string g_filter;

bool Wanted(const std::string& name) { return g_filter.empty() || name.find(g_filter) != std::string::npos; }

/// Splits [0, count) among the pool's threads.
void Split(ThreadPool& pool, int64_t count, const std::function<void(int64_t, int64_t)>& body) {
  pool.Run([&](ThreadPool::Worker& worker) {
    const int64_t n = worker.num_threads(), i = worker.index();
    body(count * i / n, count * (i + 1) / n);
  });
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) int64_t SumBytes(const char* p, int64_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (int64_t i = 0; i < bytes; i += 256) {
    _mm_prefetch(p + i + 4096, _MM_HINT_T0);
    _mm_prefetch(p + i + 4160, _MM_HINT_T0);
    _mm_prefetch(p + i + 4224, _MM_HINT_T0);
    _mm_prefetch(p + i + 4288, _MM_HINT_T0);
    a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
    b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
    c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
    d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
  }
  int64_t out[8];
  _mm512_storeu_si512(out, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
  return out[0] + out[7];
}
#endif

struct Limits {
  double flops[3] = {};  // by threads
  double bytes[3] = {};
};

Limits MeasureLimits() {
  Limits limits;
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512bf16")) return limits;
  Memory data(size_t{512} << 20);
  std::memset(data.data(), 1, data.size());
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    limits.flops[threads] = MeasureMatrixPeak(pool);
    const int64_t pages = static_cast<int64_t>(data.size() >> 21);
    volatile int64_t sink = 0;
    const double s = Best(
        [&] { Split(pool, pages, [&](int64_t b, int64_t e) { sink = sink + SumBytes(data.as<char>() + (b << 21), (e - b) << 21); }); }, threads, 1.0);
    limits.bytes[threads] = static_cast<double>(data.size()) / s;
    std::printf("{\"figure\": \"machine\", \"threads\": %d, \"bf16_gflops\": %.0f, \"read_gb_per_s\": %.1f}\n", threads, limits.flops[threads] / 1e9,
                limits.bytes[threads] / 1e9);
  }
#endif
  return limits;
}

std::vector<float> Random(int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& v : out) {
    state = state * 1664525U + 1013904223U;
    v = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return out;
}

Memory RandomElements(const Kernels& k, int64_t n) {
  Memory out(static_cast<size_t>(n * k.element_bytes));
  std::vector<float> f = Random(n);
  k.convert({f.data(), n, 1, n, nullptr, out.data(), n});
  return out;
}

void BenchLinear(const Kernels& kernels, const Limits& limits, int threads) {
  struct Shape {
    int64_t n, k;
  };
  for (auto [n, k] : {Shape{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {49152, 576}}) {
    const std::string name = "linear " + std::to_string(n) + "x" + std::to_string(k);
    if (!Wanted(name)) continue;
    // Enough copies that the weights come from memory, as a model's layers do.
    const int64_t copies = std::max<int64_t>(1, (int64_t{200} << 20) / (n * k * kernels.element_bytes));
    const int64_t blocks = (n + kernels.column_block - 1) / kernels.column_block;
    // One block of memory for all: only a large one gets huge pages.
    const int64_t bytes = static_cast<int64_t>(kernels.packed_bytes(n, k));
    Memory packed(static_cast<size_t>(bytes * copies));
    Memory w = RandomElements(kernels, n * k);
    for (int64_t i = 0; i < copies; ++i) kernels.pack({w.data(), k, n, k, 0, packed.as<char>() + i * bytes});
    ThreadPool pool(threads);
    for (int64_t rows : {1, 4, 8, 16, 32, 64, 128, 256, 2048}) {
      if (rows > 64 && n > 10000) continue;
      Memory x = RandomElements(kernels, rows * k), out(static_cast<size_t>(rows * n * 4));
      const int64_t used = std::max<int64_t>(1, std::min(copies, 1024 / rows));
      const double s = Best([&] {
                         pool.Run([&](ThreadPool::Worker& worker) {
                           const int64_t parts = worker.num_threads(), i = worker.index();
                           for (int64_t c = 0; c < used; ++c) {
                             kernels.linear({x.data(), k, rows, packed.as<char>() + c * bytes, n, k, blocks * i / parts, blocks * (i + 1) / parts,
                                             out.as<float>(), n, false});
                             worker.Barrier();
                           }
                         });
                       }) /
                       static_cast<double>(used);
      const double flops = 2.0 * static_cast<double>(rows * n * k) / s, rate = static_cast<double>(bytes) / s;
      const double bound = std::max(flops / limits.flops[threads], rows > 64 ? 0 : rate / limits.bytes[threads]);
      std::printf(
          "{\"figure\": \"%s\", \"kernels\": \"%s\", \"threads\": %d, \"rows\": %ld, \"us\": %.1f, \"gflops\": %.0f, \"gb_per_s\": %.1f, "
          "\"share_of_limit\": %.2f}\n",
          name.c_str(), kernels.name, threads, rows, s * 1e6, flops / 1e9, rate / 1e9, bound);
    }
  }
}

void Report(const Kernels& kernels, const std::string& name, double s, double flops, double bytes, const Limits& limits) {
  std::printf(
      "{\"figure\": \"%s\", \"kernels\": \"%s\", \"threads\": 1, \"us\": %.1f, \"gflops\": %.0f, \"gb_per_s\": %.1f, \"share_of_limit\": %.2f}\n",
      name.c_str(), kernels.name, s * 1e6, flops / s / 1e9, bytes / s / 1e9, std::max(flops / s / limits.flops[1], bytes / s / limits.bytes[1]));
}

void BenchGradient(const Kernels& kernels, const Limits& limits) {
  struct Shape {
    int64_t n, k;
  };
  for (auto [n, k] : {Shape{576, 576}, {3072, 576}, {576, 1536}}) {
    const int64_t rows = 2048, tiles = rows / kGradientTile;
    Memory dy = RandomElements(kernels, rows * n), x = RandomElements(kernels, rows * k), dw(static_cast<size_t>(n * k * 4));
    Memory dy_rows(kernels.packed_rows_bytes(rows, n)), x_rows(kernels.packed_rows_bytes(rows, k));
    FlushDenormals flush;
    const std::string name = " " + std::to_string(n) + "x" + std::to_string(k);
    if (Wanted("pack_rows")) {
      Report(kernels, "pack_rows" + name, Best([&] {
               kernels.pack_gradient_rows({dy.data(), n, rows, n, 0, tiles, dy_rows.data()});
               kernels.pack_rows({x.data(), k, rows, k, 0, tiles, x_rows.data()});
             }),
             0, static_cast<double>(2 * rows * (n + k) * kernels.element_bytes), limits);
    }
    if (Wanted("weight_gradient")) {
      Report(kernels, "weight_gradient" + name, Best([&] {
               kernels.weight_gradient({dy_rows.data(), x_rows.data(), tiles, n, k, 0, (n + 63) / 64, 0, (k + 63) / 64, dw.as<float>(), k});
             }),
             2.0 * static_cast<double>(rows * n * k), 0, limits);
    }
  }
}

void BenchAttention(const Kernels& kernels, const Limits& limits) {
  const int64_t heads = 9, kv_heads = 3, dim = 64, sequences = 64, positions = 2048;
  const int64_t stride = static_cast<int64_t>(kernels.kv_block_bytes(kv_heads, dim)), per_sequence = positions / kKvBlock;
  Memory keys(static_cast<size_t>(stride * per_sequence * sequences)), values(keys.size());
  Memory row = RandomElements(kernels, positions * heads * dim), out(static_cast<size_t>(positions * heads * dim * 4));
  std::vector<std::vector<int32_t>> blocks(static_cast<size_t>(sequences));
  FlushDenormals flush;
  for (size_t s = 0; s < blocks.size(); ++s) {
    for (int64_t b = 0; b < per_sequence; ++b) blocks[s].push_back(static_cast<int32_t>(b * sequences + static_cast<int64_t>(s)));
    kernels.store_kv(
        {row.data(), heads * dim, row.data(), heads * dim, positions, 0, kv_heads, dim, keys.data(), values.data(), stride, blocks[s].data()});
  }
  auto args = [&](size_t s, int64_t rows, int64_t first) {
    return AttentionArgs{row.data(), heads * dim,      rows,   first,      heads,       kv_heads, dim, 0, kv_heads, keys.data(), values.data(),
                         stride,     blocks[s].data(), 0.125f, out.data(), heads * dim, nullptr,  0};
  };
  for (int64_t context : {64, 512, 2048}) {
    if (!Wanted("attention decode")) break;
    const double s = Best([&] {
      for (size_t i = 0; i < blocks.size(); ++i) kernels.attention(args(i, 1, context - 1));
    });
    Report(kernels, "attention decode, 64 sequences of " + std::to_string(context), s, 4.0 * static_cast<double>(sequences * context * heads * dim),
           static_cast<double>(sequences * context * kv_heads * dim * 2 * kernels.element_bytes), limits);
  }
  for (int64_t context : {512, 2048}) {
    if (!Wanted("attention prefill")) break;
    const double s = Best([&] { kernels.attention(args(0, context, 0)); });
    Report(kernels, "attention prefill of " + std::to_string(context), s, 2.0 * static_cast<double>(context * context * heads * dim), 0, limits);
  }
  if (!Wanted("attention backward")) return;
  std::vector<float> lse(static_cast<size_t>(positions * heads), 8.0f), delta(lse.size()), dq(static_cast<size_t>(positions * heads * dim)),
      dk(dq.size()), dv(dq.size());
  for (int64_t context : {256, 1024}) {
    Memory scratch(kernels.attention_backward_bytes(context, context, dim));
    const RowSpan span{0, context};
    const double s = Best([&] {
      for (int64_t h = 0; h < kv_heads; ++h) {
        kernels.attention_backward(
            {row.data(),   heads * dim, row.data(), heads * dim, row.data(),  heads * dim, row.data(),    heads * dim, lse.data(),
             delta.data(), heads,       &span,      1,           heads,       kv_heads,    dim,           h,           0.125f,
             dq.data(),    heads * dim, dk.data(),  dv.data(),   heads * dim, 0,           scratch.data()});
      }
    });
    Report(kernels, "attention backward of " + std::to_string(context), s, 5.0 * static_cast<double>(context * context * heads * dim), 0, limits);
  }
}

void BenchRows(const Kernels& kernels, const Limits& limits) {
  const int64_t vocab = 49152, rows = 64, n = 576, wide = 1536;
  std::vector<float> logits = Random(vocab * rows), weight(static_cast<size_t>(n), 1.0f), sums(48);
  Memory out(static_cast<size_t>(rows * vocab * 4));
  FlushDenormals flush;
  auto run = [&](const std::string& name, double bytes, const std::function<void()>& call) {
    if (Wanted(name)) Report(kernels, name, Best(call), 0, bytes, limits);
  };
  const double all = static_cast<double>(rows * vocab * 4);
  run("sum_chunk, 64 rows of 49152", all, [&] {
    for (int64_t i = 0; i < rows * vocab; i += kVocabChunk) kernels.sum_chunk({logits.data() + i, kVocabChunk, 1.0f, false});
  });
  run("softmax_gradient, 64 rows of 49152", all * 1.5, [&] {
    for (int64_t r = 0; r < rows; ++r) kernels.softmax_gradient({logits.data() + r * vocab, vocab, 1.0f, 10.0f, 5, 1.0f, 0, 0, out.data()});
  });
  run("argmax, 64 rows of 49152", all, [&] {
    for (int64_t r = 0; r < rows; ++r) kernels.argmax(logits.data() + r * vocab, vocab);
  });
  run("rms_norm, 64 rows of 576", static_cast<double>(rows * n * 6), [&] {
    kernels.rms_norm({logits.data(), n, rows, n, weight.data(), 1e-5f, out.data(), n, nullptr});
  });
  run("silu, 64 rows of 1536", static_cast<double>(rows * wide * 10), [&] {
    kernels.silu({logits.data(), logits.data() + wide, 2 * wide, rows, wide, out.data(), wide});
  });
  const std::vector<int32_t> positions(static_cast<size_t>(rows), 7);
  run("rope, 64 rows of 9 heads", static_cast<double>(rows * n * 6), [&] {
    kernels.rope({logits.data(), n, rows, positions.data(), 9, 64, logits.data(), nullptr, nullptr, 0, out.data(), n});
  });
  const int64_t parameters = int64_t{1} << 22;
  std::vector<float> w(static_cast<size_t>(parameters)), m(w), v(w), g = Random(parameters);
  run("adamw, 4 Mi parameters", static_cast<double>(parameters * 30), [&] {
    kernels.adamw({w.data(), m.data(), v.data(), g.data(), parameters, 1, 1e-3f, 0.9f, 0.95f, 1e-8f, 0, 1, 1, out.data()});
  });
  run("sum_squares, 4 Mi", static_cast<double>(parameters * 4), [&] { kernels.sum_squares(g.data(), parameters); });
  Memory weights = RandomElements(kernels, 1536 * 576), packed(kernels.packed_bytes(1536, 576));
  run("pack 1536x576", static_cast<double>(1536 * 576 * 4), [&] { kernels.pack({weights.data(), 576, 1536, 576, 0, packed.data()}); });
  run("pack_transposed 1536x576", static_cast<double>(1536 * 576 * 4), [&] {
    kernels.pack_transposed({weights.data(), 576, 1536, 0, 576, 0, 1536, packed.data()});
  });
}

void BenchBarrier() {
  if (!Wanted("barrier")) return;
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    auto barriers = [&] {
      pool.Run([](ThreadPool::Worker& worker) {
        for (int i = 0; i < 1000; ++i) worker.Barrier();
      });
    };
    auto regions = [&] {
      for (int i = 0; i < 100; ++i) pool.Run([](ThreadPool::Worker&) {});
    };
    std::printf("{\"figure\": \"barrier\", \"threads\": %d, \"ns\": %.0f, \"region_ns\": %.0f}\n", threads, Best(barriers, threads) * 1e6,
                Best(regions, threads) * 1e7);
  }
}

}  // namespace
}  // namespace april::kernels

int main(int argc, char** argv) {
  using namespace april::kernels;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Kernels& kernels = ChooseKernels(argc > 1 ? argv[1] : "auto", Precision::kAuto);
    g_filter = argc > 2 ? argv[2] : "";
    BenchBarrier();
    const Limits limits = MeasureLimits();
    for (int threads : {1, 2}) BenchLinear(kernels, limits, threads);
    BenchAttention(kernels, limits);
    BenchGradient(kernels, limits);
    BenchRows(kernels, limits);
  } catch (const april::Error& error) {
    std::fprintf(stderr, "bench_kernels: %s (%s)\nusage: bench_kernels [KERNELS [NAME PART]]\n", error.message().c_str(), error.hint().c_str());
    return 2;
  }
  return 0;
}
