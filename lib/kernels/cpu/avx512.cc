// Kernel sets for machines with AVX-512; the bf16 set needs its bf16 product too.
#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/sets.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))), apply_to = function)
#else
// g++ 12 takes the deliberately undefined pass-through operand of its own intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#endif

#define APRIL_LANES_BF16
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/make_table.h"

namespace april::kernels {

const Kernels kAvx512Bf16 = MakeTable<Bf16>("avx512-bf16");
const Kernels kAvx512F32 = MakeTable<F32>("avx512-f32");

}  // namespace april::kernels

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
