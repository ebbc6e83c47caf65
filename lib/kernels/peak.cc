#include "kernels/peak.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

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

/// The thread's own time on a processor: another program's share of it, such as a generator that starts at the same moment, is not this machine's
/// limit.
double ThreadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

double MeasureMatrixPeak(ThreadPool& pool) {
  const Spin spin = FastestSpin();
  if (spin.run == nullptr) return 0;
  std::vector<double> best_s(static_cast<size_t>(pool.num_threads()), kBudget_s);
  const double begin_s = SystemClock().MonotonicSeconds();
  while (SystemClock().MonotonicSeconds() - begin_s < kBudget_s) {
    pool.Run([&](ThreadPool::Worker& worker) {
      const double start_s = ThreadSeconds();
      spin.run();
      double& best = best_s[static_cast<size_t>(worker.index())];
      best = std::min(best, ThreadSeconds() - start_s);
    });
  }
  double rate = 0;
  for (const double s : best_s) rate += spin.operations / s;
  return rate;
}

}  // namespace april::kernels
