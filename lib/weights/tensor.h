// Named tensors in memory, without LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace april::weights {

enum class DType { kF32, kF16, kBf16, kI32, kI64, kU8, kQ8_0, kQ4_0, kQ4_1 };

const char* Name(DType dtype);  ///< "F32", "BF16", …, as safetensors and GGUF name them

/// Row-major; the data belongs to someone else and outlives the view.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  uint64_t num_bytes = 0;

  int64_t NumElements() const;
};

}  // namespace april::weights
