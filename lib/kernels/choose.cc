#include <string>

#include "base/error.h"
#include "kernels/brgemm_module.h"
#include "kernels/cpu/sets.h"
#include "kernels/kernels.h"

namespace april::kernels {
namespace {

std::string Names(const std::vector<const Kernels*>& sets) {
  std::string names;
  for (const Kernels* set : sets) names += (names.empty() ? "" : ", ") + std::string(set->name);
  return names;
}

bool Fits(const Kernels& set, Precision precision) {
  return precision == Precision::kAuto || (set.element_bytes == 2) == (precision == Precision::kBf16);
}

/// Every set that this machine runs; the one that is a module of its own only `with_brgemm`, and when it is missing then, why.
std::vector<const Kernels*> Sets([[maybe_unused]] bool with_brgemm, std::string* why_not) {
  std::vector<const Kernels*> sets;
  *why_not = "needs a processor with AVX-512 and its bf16 products";
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (avx512_bf16) sets.push_back(&kAvx512Bf16);
  // The f32 set shares its file, and so its instruction set, with the bf16 one.
  if (avx512_bf16) sets.push_back(&kAvx512F32);
  if (const Kernels* amx = avx512_bf16 && ProcessorHasAmx() ? AmxBf16() : nullptr) sets.insert(sets.begin(), amx);
  if (const Kernels* brgemm = avx512_bf16 && with_brgemm ? Brgemm(why_not) : nullptr) sets.push_back(brgemm);
  if (avx2) sets.push_back(&kAvx2F32);
  if (avx2) sets.push_back(&kAvx2Bf16);
#endif
  sets.push_back(&kPortableF32);
  sets.push_back(&kPortableBf16);
  sets.push_back(&kPortableAmxBf16);
  return sets;
}

}  // namespace

const Kernels& PortableLike(const Kernels& set) {
  if (set.element_bytes == 4) return kPortableF32;
  return set.sum_step == 0 ? kPortableBf16 : kPortableAmxBf16;
}

std::vector<const Kernels*> AvailableKernels() {
  std::string why_not;
  return Sets(true, &why_not);
}

const Kernels& ChooseKernels(std::string_view name, Precision precision) {
  const bool asked = name.starts_with("brgemm");
  std::string why_not;
  for (const Kernels* set : Sets(asked, &why_not)) {
    const std::string_view full = set->name;
    const bool named = name == full || (full.starts_with(name) && full.size() > name.size() && full[name.size()] == '-');
    if (Fits(*set, precision) && (named || name == "auto")) return *set;
  }
  const std::vector<const Kernels*> sets = AvailableKernels();
  for (const Kernels* set : sets) {
    if (name == set->name)
      throw Error::Usage("kernel set " + std::string(name) + " does not have the asked precision", "leave out one of the two options");
  }
  throw Error::Usage(
      "kernel set \"" + std::string(name) + "\" " + (asked && !why_not.empty() ? why_not : "is unknown, or this machine cannot run it"),
      "available here: auto, " + Names(sets));
}

}  // namespace april::kernels
