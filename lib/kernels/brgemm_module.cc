#include "kernels/brgemm_module.h"

#include <dlfcn.h>

#include <filesystem>

#include "kernels/cpu/sets.h"
#if defined(__x86_64__)
#include <cpuid.h>

namespace april::kernels {
namespace {

struct Loaded {
  Kernels kernels = ProcessorHasAmx() && AmxBf16() != nullptr ? *AmxBf16() : kAvx512Bf16;
  std::string failure;
};

Loaded Load() {
  Loaded loaded;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string path = (program.parent_path().parent_path() / "lib/april/libapril_brgemm.so").string();
  if (!std::filesystem::exists(path, error)) {
    loaded.failure = "needs " + path + ", which is not there; builds with LibTorch make it (cmake -DAPRIL_TORCH=ON)";
    return loaded;
  }
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // for as long as the process lives
  void* function = module ? ::dlsym(module, "april_brgemm") : nullptr;
  if (!function) {
    loaded.failure = std::string("cannot be loaded: ") + ::dlerror();
    return loaded;
  }
  const char* failure = reinterpret_cast<MakeBrgemm*>(function)(&loaded.kernels, sizeof loaded.kernels);
  if (failure) loaded.failure = path + " cannot be used: " + failure;
  return loaded;
}

}  // namespace

const Kernels* Brgemm(std::string* why_not) {
  static const Loaded loaded = Load();
  *why_not = loaded.failure;
  return loaded.failure.empty() ? &loaded.kernels : nullptr;
}

bool ProcessorHasAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0 && (d & kAmxTile) != 0;
}

}  // namespace april::kernels

#else

bool april::kernels::ProcessorHasAmx() { return false; }

#endif  // __x86_64__
