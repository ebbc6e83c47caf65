// The kernel sets that any machine runs, and the reference for the bits of the others.
#include "kernels/cpu/lanes_portable.h"
#include "kernels/cpu/make_table.h"
#include "kernels/cpu/sets.h"

namespace april::kernels {

extern const Kernels kPortableBf16 = MakeTable<Bf16>("portable-bf16");
extern const Kernels kPortableAmxBf16 = MakeTable<StepBf16>("portable-amx-bf16");
extern const Kernels kPortableF32 = MakeTable<F32>("portable-f32");

}  // namespace april::kernels
