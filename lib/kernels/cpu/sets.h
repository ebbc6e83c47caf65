// The kernel sets' tables; kernels/kernels.h chooses among those that the machine runs.
#pragma once

#include "kernels/table.h"

namespace april::kernels {

extern const Kernels kPortableBf16;
extern const Kernels kPortableAmxBf16;
extern const Kernels kPortableF32;
#if defined(__x86_64__)
extern const Kernels kAvx2Bf16;
extern const Kernels kAvx2F32;
extern const Kernels kAvx512Bf16;
extern const Kernels kAvx512F32;
/// Null when the operating system does not give the tiles. Only on processors that have them.
const Kernels* AmxBf16();
#endif

}  // namespace april::kernels
