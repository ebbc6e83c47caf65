// The kernel set whose linear is oneDNN's matrix micro-kernel, reached through LibTorch. Everything else, the packed layout too, is the set's that it
// stands in for, and its bits are that set's: with AMX the AMX set, else the AVX-512-BF16 one (figures: linear.h, tile_linear.h). This file alone
// makes a shared module, which programs load when the set is chosen.
#if defined(__x86_64__)

#include <ATen/native/CPUBlas.h>

#include <exception>

#include "kernels/table.h"

namespace april::kernels {
namespace {

constexpr int64_t kRows = 32, kColumns = 32;  // of a call: two by two tiles of AMX; columns are those of a packed block

int64_t g_sum_step = 0;                         // of the set that this one stands in for
void (*g_linear)(const LinearArgs&) = nullptr;  // and its linear

void BrgemmLinear(const LinearArgs& a) {
  // The library sums an incomplete step in an order of its own.
  if (g_sum_step != 0 && a.k % g_sum_step != 0) return g_linear(a);
  alignas(64) float tile[kRows * kColumns];
  const auto* x = static_cast<const at::BFloat16*>(a.x);
  for (int64_t block = a.block_begin; block < a.block_end; ++block) {
    const auto* w = static_cast<const at::BFloat16*>(a.packed) + block * kColumns * a.k;
    const int64_t columns = a.n - block * kColumns < kColumns ? a.n - block * kColumns : kColumns;
    // The library may add before or after its own sum: what is there already is added here.
    const bool direct = !a.add && columns == kColumns;
    for (int64_t row = 0; row < a.rows; row += kRows) {
      const int64_t rows = a.rows - row < kRows ? a.rows - row : kRows;
      float* out = a.out + row * a.out_stride + block * kColumns;
      at::native::cpublas::brgemm(rows, kColumns, a.k, a.x_stride, kColumns, direct ? a.out_stride : kColumns, false, x + row * a.x_stride, w,
                                  direct ? out : tile);
      if (direct) continue;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < columns; ++i) {
          const float sum = tile[r * kColumns + i];
          out[r * a.out_stride + i] = a.add ? out[r * a.out_stride + i] + sum : sum;
        }
      }
    }
  }
  at::native::cpublas::brgemm_release();
}

/// A LibTorch without oneDNN has no such product; it says so when asked for one.
bool LibraryHasIt() {
  alignas(64) const uint16_t x[2] = {}, w[2 * kColumns] = {};
  alignas(64) float out[kColumns];
  try {
    BrgemmLinear({x, 2, 1, w, kColumns, 2, 0, 1, out, kColumns, false});
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

}  // namespace

/// MakeBrgemm (kernels/brgemm_module.h).
extern "C" const char* april_brgemm(Kernels* kernels, size_t table_bytes) {
  if (table_bytes != sizeof *kernels) return "it is of another build";
  kernels->name = kernels->sum_step != 0 ? "brgemm-amx-bf16" : "brgemm-avx512-bf16";
  g_sum_step = kernels->sum_step;
  g_linear = kernels->linear;
  kernels->linear = BrgemmLinear;
  return LibraryHasIt() ? nullptr : "its LibTorch is built without oneDNN";
}

}  // namespace april::kernels

#endif  // __x86_64__
