#include "weights/tensor.h"

namespace april::weights {
namespace {

struct Row {
  DType dtype;
  const char* name;
  BlockSize block;
};

constexpr Row kTable[] = {
    {DType::kF32, "F32", {1, 4}},     {DType::kF16, "F16", {1, 2}},     {DType::kBf16, "BF16", {1, 2}},
    {DType::kI32, "I32", {1, 4}},     {DType::kI64, "I64", {1, 8}},     {DType::kU8, "U8", {1, 1}},
    {DType::kQ8_0, "Q8_0", {32, 34}}, {DType::kQ4_0, "Q4_0", {32, 18}}, {DType::kQ4_1, "Q4_1", {32, 20}},
};

const Row& RowOf(DType dtype) { return kTable[static_cast<int>(dtype)]; }

}  // namespace

const char* Name(DType dtype) { return RowOf(dtype).name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (const Row& row : kTable) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

BlockSize BlockOf(DType dtype) { return RowOf(dtype).block; }

std::optional<int64_t> CheckedElements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(product, dimension, &product)) return std::nullopt;
  }
  return product;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int64_t TensorView::NumElements() const {
  int64_t product = 1;
  for (const int64_t dimension : shape) product *= dimension;
  return product;
}

}  // namespace april::weights
