// The kernel set for machines with AMX: products on tiles, whose sums have an order of their own (tiles.h); all else is the AVX-512-BF16 set's.
#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/sets.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
// g++ 12 takes the deliberately undefined pass-through operand of its own intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif

#define APRIL_LANES_BF16
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/tile_attention.h"
#include "kernels/cpu/tile_linear.h"

namespace april::kernels {
namespace {

/// The operating system gives a process the tiles' registers when it asks; threads that there are and that come have them, too.
bool AskForTiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

Kernels MakeAmx() {
  Kernels set = kAvx512Bf16;
  set.name = "amx-bf16";
  set.sum_step = kTileStep;
  set.linear = TileLinear;
  set.pack_gradient_rows = PackTurnedRows;
  set.weight_gradient = TileWeightGradient;
  set.attention = TileAttention;
  set.attention_backward = TileAttentionBackward;
  return set;
}

}  // namespace

const Kernels* AmxBf16() {
  static const bool given = AskForTiles();
  static const Kernels set = MakeAmx();
  return given ? &set : nullptr;
}

}  // namespace april::kernels

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__
