// The kernel set that needs LibTorch lives in a shared module of its own: hundreds of megabytes of libraries that only programs which use it load.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/table.h"

namespace april::kernels {

/// The set, from ../lib/april beside this program; loaded at the first call. Null, with the reason, when the module is missing or cannot work here.
/// Only on processors that run the AVX-512-BF16 set.
///   Thread  any.
const Kernels* Brgemm(std::string* why_not);

/// Whether the processor has AMX with bf16.
bool ProcessorHasAmx();

/// The module's function april_brgemm makes `kernels`, which comes as the table of the set that it stands in for, its own; null, or why it cannot.
/// `table_bytes`: the size of the caller's table, to refuse a module of another build.
using MakeBrgemm = const char*(Kernels* kernels, size_t table_bytes);

}  // namespace april::kernels
