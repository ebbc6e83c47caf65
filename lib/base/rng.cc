#include "base/rng.h"

#include <random>

namespace april {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

uint64_t Mix64(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

uint64_t RandomBits(uint64_t seed, RandomUse use, uint64_t id, uint64_t index) {
  // The counter holds (index, id); the key holds (seed, use). Mixing the use into the seed keeps all 64 bits of both.
  const uint64_t mixed = Mix64(seed + 0x9E3779B97F4A7C15u * (static_cast<uint64_t>(use) + 1));
  const auto words =
      Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32)},
                 {static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)});
  return (static_cast<uint64_t>(words[1]) << 32) | words[0];
}

double RandomUnit(uint64_t seed, RandomUse use, uint64_t id, uint64_t index) {
  return static_cast<double>(RandomBits(seed, use, id, index) >> 11) * 0x1p-53;
}

uint64_t RandomId() {
  std::random_device device;
  const uint64_t id = uint64_t{device()} << 32 | device();
  return id == 0 ? 1 : id;
}

}  // namespace april
