// Kernel sets: choosing one for the machine, and what they share. The table itself is in table.h, the sizes that bits depend on in contract.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/contract.h"
#include "kernels/table.h"

namespace april::kernels {

enum class Precision {
  kAuto,  ///< bf16 where the machine multiplies bf16 by itself, else f32
  kBf16,
  kF32,
};

/// The kernel set of that name ("portable-f32"), or of that family ("portable") in that precision; "auto" takes the fastest that this machine runs;
/// brgemm is only taken by name.
///   Throws Usage naming the sets that are available here.
const Kernels& ChooseKernels(std::string_view name, Precision precision);

/// The portable set that gives a set's bits, on any machine.
const Kernels& PortableLike(const Kernels& set);

/// Every set that this machine runs, the fastest first.
std::vector<const Kernels*> AvailableKernels();

}  // namespace april::kernels
