// Counter-based randomness: a number is a pure function of its key, so any token's draw can be replayed alone.
#pragma once

#include <array>
#include <cstdint>

namespace april {

/// Philox4x32-10.
///   Source  Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 4.3.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// What a random stream is for; part of the key, so that two uses never share draws. Values are recorded behaviour: do not change.
enum class RandomUse : uint32_t { kSampling = 0, kShuffle = 1, kTakeOrder = 2, kInitialWeights = 3, kTest = 255 };

/// 64 uniform bits for (seed, id, index): e.g. (run seed, rollout uid, token position).
uint64_t RandomBits(uint64_t seed, RandomUse use, uint64_t id, uint64_t index);

/// Uniform in [0, 1) with 53 bits.
double RandomUnit(uint64_t seed, RandomUse use, uint64_t id, uint64_t index);

/// 64 bits from the system's own source, which nothing else has: names of streams, sessions, leases and claims. Never 0.
uint64_t RandomId();

/// A well-mixed 64-bit function of the argument (splitmix64's finaliser); for deriving keys, not for digests.
uint64_t Mix64(uint64_t value);

}  // namespace april
