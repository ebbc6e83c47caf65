// The most that this machine's processors can multiply and add: what a share of the peak is a share of.
#pragma once

#include "kernels/thread_pool.h"

namespace april::kernels {

/// Multiplications and additions a second of the pool's threads together, in a loop on registers alone: bf16 products where the processor has them
/// (AMX, AVX-512-BF16), else f32 ones. 0: not known (processors that are not x86). Takes a twentieth of a second.
///   Thread  runs regions on the pool.
double MeasureMatrixPeak(ThreadPool& pool);

}  // namespace april::kernels
