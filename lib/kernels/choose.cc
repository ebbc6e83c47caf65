#include <string>

#include "base/error.h"
#include "kernels/cpu/sets.h"
#include "kernels/kernels.h"

namespace april::kernels {
namespace {

std::string Names(const std::vector<const Kernels*>& sets) {
  std::string names;
  for (const Kernels* set : sets) names += (names.empty() ? "" : ", ") + std::string(set->name);
  return names;
}

}  // namespace

std::vector<const Kernels*> AvailableKernels() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (avx512_bf16) sets.push_back(&kAvx512Bf16);
  // The f32 set shares its file, and so its instruction set, with the bf16 one.
  if (avx512_bf16) sets.push_back(&kAvx512F32);
  if (avx2) sets.push_back(&kAvx2F32);
  if (avx2) sets.push_back(&kAvx2Bf16);
#endif
  sets.push_back(&kPortableF32);
  sets.push_back(&kPortableBf16);
  return sets;
}

const Kernels& ChooseKernels(std::string_view name, Precision precision) {
  const std::vector<const Kernels*> sets = AvailableKernels();
  for (const Kernels* set : sets) {
    const std::string_view full = set->name;
    const bool fits = precision == Precision::kAuto || (set->element_bytes == 2) == (precision == Precision::kBf16);
    const bool named = name == "auto" || name == full || (full.starts_with(name) && full.size() > name.size() && full[name.size()] == '-');
    if (fits && named) return *set;
  }
  for (const Kernels* set : sets) {
    if (name == set->name)
      throw Error::Usage("kernel set " + std::string(name) + " does not have the asked precision", "leave out one of the two options");
  }
  throw Error::Usage("kernel set \"" + std::string(name) + "\" is unknown, or this machine cannot run it", "available here: auto, " + Names(sets));
}

}  // namespace april::kernels
