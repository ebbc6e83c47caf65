// The kernel sets' tables; kernels/kernels.h chooses among those that the machine runs.
#pragma once

#include "kernels/table.h"

namespace april::kernels {

extern const Kernels kPortableBf16;
extern const Kernels kPortableF32;
#if defined(__x86_64__)
extern const Kernels kAvx2Bf16;
extern const Kernels kAvx2F32;
extern const Kernels kAvx512Bf16;
extern const Kernels kAvx512F32;
/// Null when LibTorch cannot. Only on processors that run kAvx512Bf16, and in builds with LibTorch.
const Kernels* Brgemm();
#endif

}  // namespace april::kernels
