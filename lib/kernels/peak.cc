#include "kernels/peak.h"

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "kernels/brgemm_module.h"
#include "kernels/cpu/sets.h"

namespace april::kernels {
namespace {

constexpr int64_t kRounds = 20'000;  // below a millisecond, so that a switch of threads spoils one measurement and not all
constexpr double kBudget_s = 0.05;
constexpr int kChains = 12;  // independent ones: they hide the latency

/// A loop of products in registers.
struct Spin {
  void (*run)() = nullptr;
  double operations = 0;  ///< of one call
};

#if defined(__x86_64__)

// The instructions are named, because a compiler would fold the loop.
__attribute__((target("avx512f,avx512bf16"))) void SpinBf16() {
  __m512 sums[kChains] = {};
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512& sum : sums) asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(zero));
  }
}

__attribute__((target("avx2,fma"))) void SpinF32() {
  __m256 sums[kChains] = {};
  const __m256 zero = _mm256_setzero_ps();
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256& sum : sums) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(zero));
  }
}

/// Four accumulators of sixteen rows by sixteen columns; what the tiles hold is zero.
__attribute__((target("amx-tile,amx-bf16"))) void SpinTiles() {
  alignas(64) uint8_t config[64] = {1};  // the palette; then from byte 16 the bytes of rows, and from 48 the rows
  for (int i = 0; i < 8; ++i) {
    config[16 + 2 * i] = 64;
    config[48 + i] = 16;
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
  for (int64_t i = 0; i < kRounds; ++i) {
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n\ttdpbf16ps %tmm7, %tmm4, %tmm1\n\t"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n\ttdpbf16ps %tmm7, %tmm5, %tmm3");
  }
  asm volatile("tilerelease");
}

Spin FastestSpin() {
  __builtin_cpu_init();
  if (ProcessorHasAmx() && AmxBf16() != nullptr) return {SpinTiles, static_cast<double>(kRounds) * 4 * 2 * 16 * 16 * 32};
  if (__builtin_cpu_supports("avx512bf16")) return {SpinBf16, static_cast<double>(kRounds * kChains) * 64};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {SpinF32, static_cast<double>(kRounds * kChains) * 16};
  return {};
}

#else

Spin FastestSpin() { return {}; }

#endif

}  // namespace

double MeasureMatrixPeak(ThreadPool& pool) {
  const Spin spin = FastestSpin();
  if (spin.run == nullptr) return 0;
  const Clock& clock = SystemClock();
  const double begin_s = clock.MonotonicSeconds();
  double best_s = kBudget_s;
  while (clock.MonotonicSeconds() - begin_s < kBudget_s) {
    const double start_s = clock.MonotonicSeconds();
    pool.Run([&](ThreadPool::Worker&) { spin.run(); });
    best_s = std::min(best_s, clock.MonotonicSeconds() - start_s);
  }
  return pool.num_threads() * spin.operations / best_s;
}

}  // namespace april::kernels
