// xxh3-64: the digest of streams, frames, tensors and manifests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace april {

/// xxh3-64 with seed 0 of all the bytes.
uint64_t Digest(const void* data, size_t num_bytes);
inline uint64_t Digest(std::string_view bytes) { return Digest(bytes.data(), bytes.size()); }

/// The same digest, fed in pieces: equal to Digest over their concatenation.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  DigestStream(DigestStream&&) noexcept;
  DigestStream& operator=(DigestStream&&) noexcept;

  void Update(const void* data, size_t num_bytes);
  void Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }
  uint64_t Value() const;  ///< of what was fed so far; feeding may go on

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace april
