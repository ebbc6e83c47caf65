#include "weights/convert.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/bytes.h"
#include "base/error.h"

namespace april::weights {
namespace {

constexpr int64_t kBlock = 32;

void Store(const float* values, int64_t count, float* out) { std::memcpy(out, values, static_cast<size_t>(count) * sizeof(float)); }

void Store(const float* values, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = F32ToBf16(values[i]);
}

/// `decode(block, values)` turns one stored block into kBlock floats.
template <typename Out, typename Decode>
void ConvertBlocks(const uint8_t* data, int64_t num_elements, uint64_t block_bytes, Out* out, const Decode& decode) {
  float values[kBlock];
  for (int64_t i = 0; i < num_elements; i += kBlock, data += block_bytes) {
    decode(data, values);
    Store(values, kBlock, out + i);
  }
}

/// Types of one element a block: `widen` turns the stored element into a float.
template <typename In, typename Out, typename Widen>
void ConvertElements(const uint8_t* data, int64_t num_elements, Out* out, const Widen& widen) {
  float values[kBlock];
  for (int64_t i = 0; i < num_elements; i += kBlock) {
    const int64_t count = std::min(kBlock, num_elements - i);
    for (int64_t j = 0; j < count; ++j) values[j] = widen(LoadLe<In>(data + static_cast<size_t>(i + j) * sizeof(In)));
    Store(values, count, out + i);
  }
}

void DecodeQ8_0(const uint8_t* block, float* values) {
  const float scale = F16ToF32(LoadLe<uint16_t>(block));
  for (int64_t j = 0; j < kBlock; ++j) values[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * scale;
}

void DecodeQ4_0(const uint8_t* block, float* values) {
  const float scale = F16ToF32(LoadLe<uint16_t>(block));
  for (int64_t j = 0; j < kBlock / 2; ++j) {
    const int byte = block[2 + j];
    values[j] = static_cast<float>((byte & 15) - 8) * scale;
    values[j + kBlock / 2] = static_cast<float>((byte >> 4) - 8) * scale;
  }
}

void DecodeQ4_1(const uint8_t* block, float* values) {
  const float scale = F16ToF32(LoadLe<uint16_t>(block)), minimum = F16ToF32(LoadLe<uint16_t>(block + 2));
  for (int64_t j = 0; j < kBlock / 2; ++j) {
    const int byte = block[4 + j];
    values[j] = static_cast<float>(byte & 15) * scale + minimum;
    values[j + kBlock / 2] = static_cast<float>(byte >> 4) * scale + minimum;
  }
}

template <typename Out>
bool ConvertTo(DType from, const uint8_t* data, int64_t num_elements, Out* out) {
  const uint64_t block_bytes = BlockOf(from).num_bytes;
  switch (from) {
    case DType::kF32:
      ConvertElements<float>(data, num_elements, out, [](float value) { return value; });
      return true;
    case DType::kF16:
      ConvertElements<uint16_t>(data, num_elements, out, F16ToF32);
      return true;
    case DType::kBf16:
      ConvertElements<uint16_t>(data, num_elements, out, Bf16ToF32);
      return true;
    case DType::kQ8_0:
      ConvertBlocks(data, num_elements, block_bytes, out, DecodeQ8_0);
      return true;
    case DType::kQ4_0:
      ConvertBlocks(data, num_elements, block_bytes, out, DecodeQ4_0);
      return true;
    case DType::kQ4_1:
      ConvertBlocks(data, num_elements, block_bytes, out, DecodeQ4_1);
      return true;
    case DType::kI32:
    case DType::kI64:
    case DType::kU8:
      return false;
  }
  return false;
}

}  // namespace

void Convert(DType from, const void* data, int64_t num_elements, DType to, void* out) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  if (from == to) {
    const BlockSize block = BlockOf(from);
    std::memcpy(out, data, static_cast<size_t>(num_elements / block.num_elements) * block.num_bytes);
    return;
  }
  const bool done = to == DType::kF32    ? ConvertTo(from, bytes, num_elements, static_cast<float*>(out))
                    : to == DType::kBf16 ? ConvertTo(from, bytes, num_elements, static_cast<uint16_t*>(out))
                                         : false;
  if (!done) throw Error::Incompatible(std::string("no conversion from ") + Name(from) + " to " + Name(to));
}

}  // namespace april::weights
