// What the kernel tests share: seeded random arrays in a set's element type, and slow references in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"

namespace april::kernels::test {

/// Normal-like numbers (a sum of four uniforms), the same for the same seed.
inline std::vector<float> RandomFloats(int64_t count, uint64_t seed, double spread = 1.0) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    uint64_t bits = RandomBits(seed, RandomUse::kTest, 0, i);
    double sum = 0;
    for (int j = 0; j < 4; ++j) sum += static_cast<double>((bits >> (16 * j)) & 0xffff) / 65536.0 - 0.5;
    out[i] = static_cast<float>(sum * 1.7320508 * spread);
  }
  return out;
}

/// An array in a kernel set's element type.
class Elements {
 public:
  Elements(const Kernels& kernels, int64_t count) : kernels_(&kernels), count_(count), memory_(static_cast<size_t>(count * kernels.element_bytes)) {}
  Elements(const Kernels& kernels, const std::vector<float>& values) : Elements(kernels, static_cast<int64_t>(values.size())) {
    kernels.convert({values.data(), count_, 1, count_, nullptr, memory_.data(), count_});
  }
  void* data() const { return memory_.data(); }
  void* at(int64_t i) const { return memory_.as<char>() + i * kernels_->element_bytes; }
  std::vector<float> Floats() const {
    std::vector<float> out(static_cast<size_t>(count_));
    kernels_->to_float(memory_.data(), out.data(), count_);
    return out;
  }
  bool SameBits(const Elements& other) const { return count_ == other.count_ && std::memcmp(data(), other.data(), memory_.size()) == 0; }

 private:
  const Kernels* kernels_;
  int64_t count_;
  Memory memory_;
};

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Of |a - b| / (1 + |b|).
inline double WorstError(const std::vector<float>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    double error = std::abs(static_cast<double>(a[i]) - b[i]) / (1 + std::abs(b[i]));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

/// Error that one rounding to the element type may cause, with some room.
inline double ElementTolerance(const Kernels& kernels) { return kernels.element_bytes == 2 ? 1.0 / 200 : 2e-6; }

/// A matrix packed whole.
inline Memory Packed(const Kernels& kernels, const Elements& w, int64_t n, int64_t k) {
  Memory packed(kernels.packed_bytes(n, k));
  kernels.pack({w.data(), k, n, k, 0, packed.data()});
  return packed;
}

inline int64_t Blocks(const Kernels& kernels, int64_t n) { return (n + kernels.column_block - 1) / kernels.column_block; }
inline int64_t Panels(const Kernels& kernels, int64_t n) { return (n + kernels.panel_columns - 1) / kernels.panel_columns; }

}  // namespace april::kernels::test
