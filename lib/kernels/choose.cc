#include <string>

#include "base/error.h"
#include "base/log.h"
#include "kernels/cpu/sets.h"
#include "kernels/kernels.h"
#include "kernels/self_test.h"

namespace april::kernels {
namespace {

std::string Names(const std::vector<const Kernels*>& sets) {
  std::string names;
  for (const Kernels* set : sets) names += (names.empty() ? "" : ", ") + std::string(set->name);
  return names;
}

/// Whether a set whose sums have an order of their own gives the same ones for any number of rows and threads: nobody asked for it by name.
bool Proven(const Kernels& set) {
  ThreadPool pool(0);
  const std::string failure = SelfTestLinears(set, pool, {{2048, 64}, {576, 1536}});
  if (!failure.empty()) log::WarnOnce(set.name, failure + "; it is not used unless asked for by name");
  return failure.empty();
}

bool Fits(const Kernels& set, Precision precision) {
  return precision == Precision::kAuto || (set.element_bytes == 2) == (precision == Precision::kBf16);
}

std::string WhyMissing(std::string_view name) {
  if (!name.starts_with("brgemm")) return "is unknown, or this machine cannot run it";
#if defined(APRIL_TORCH)
  return "needs a processor with AVX-512 and its bf16 products, and a LibTorch with oneDNN";
#else
  return "is not in this build: it needs LibTorch (cmake -DAPRIL_TORCH=ON)";
#endif
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
#if defined(APRIL_TORCH)
  if (const Kernels* brgemm = avx512_bf16 ? Brgemm() : nullptr) sets.insert(brgemm->own_order ? sets.begin() : sets.end(), brgemm);
#endif
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
    const bool named = name == full || (full.starts_with(name) && full.size() > name.size() && full[name.size()] == '-');
    if (Fits(*set, precision) && (named || (name == "auto" && (!set->own_order || Proven(*set))))) return *set;
  }
  for (const Kernels* set : sets) {
    if (name == set->name)
      throw Error::Usage("kernel set " + std::string(name) + " does not have the asked precision", "leave out one of the two options");
  }
  throw Error::Usage("kernel set \"" + std::string(name) + "\" " + WhyMissing(name), "available here: auto, " + Names(sets));
}

}  // namespace april::kernels
