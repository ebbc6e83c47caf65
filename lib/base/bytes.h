// Little-endian loads and stores, and hexadecimal text.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace april {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian and read by memcpy");

/// Reads a T from unaligned little-endian bytes.
template <typename T>
T LoadLe(const void* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
void StoreLe(void* bytes, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(bytes, &value, sizeof value);
}

template <typename T>
void AppendLe(std::string& out, T value) {
  char bytes[sizeof value];
  StoreLe(bytes, value);
  out.append(bytes, sizeof value);
}

/// 16 lower-case digits.
std::string HexU64(uint64_t value);
/// Two lower-case digits a byte.
std::string HexBytes(std::string_view bytes);
/// Throws Data unless `text` is 1 to 16 hexadecimal digits.
uint64_t ParseHexU64(std::string_view text);

/// "3.1 MB", "812 kB", "17 B": decimal units, for messages.
std::string HumanBytes(uint64_t bytes);
/// "1:02:03", "4:05" or "12.3 s", for messages.
std::string HumanSeconds(double seconds);

}  // namespace april
