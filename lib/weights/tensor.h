// Named tensors in memory, without LibTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace april::weights {

enum class DType { kF32, kF16, kBf16, kI32, kI64, kU8, kQ8_0, kQ4_0, kQ4_1 };

const char* Name(DType dtype);  ///< "F32", "BF16", …, as safetensors and GGUF name them
std::optional<DType> ParseDType(std::string_view name);

/// Elements of the innermost dimension that are stored together (1, or 32 for the quantised types) and the bytes that they take.
struct BlockSize {
  int64_t num_elements = 1;
  uint64_t num_bytes = 0;
};
BlockSize BlockOf(DType dtype);

/// Product of the dimensions; nullopt when one is negative or the product leaves int64_t.
std::optional<int64_t> CheckedElements(const std::vector<int64_t>& shape);

/// "[576, 1536]", for messages.
std::string ShapeText(const std::vector<int64_t>& shape);

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
