// Kernel sets for machines with AVX2 and FMA. bf16 products are widened to f32.
#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/sets.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/make_table.h"

namespace april::kernels {

const Kernels kAvx2Bf16 = MakeTable<Bf16>("avx2-bf16");
const Kernels kAvx2F32 = MakeTable<F32>("avx2-f32");

}  // namespace april::kernels

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
