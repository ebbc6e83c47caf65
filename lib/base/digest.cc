#include "base/digest.h"

#include <new>

#define XXH_STATIC_LINKING_ONLY  // the state by value; this file is its only user
#include <xxhash.h>

namespace april {

struct DigestStream::State {
  XXH3_state_t xxh;  // wants 64-byte alignment, which operator new gives for the declared type
};

uint64_t Digest(const void* data, size_t num_bytes) { return XXH3_64bits(data, num_bytes); }

DigestStream::DigestStream() : state_(new State) { XXH3_64bits_reset(&state_->xxh); }
DigestStream::~DigestStream() = default;
DigestStream::DigestStream(DigestStream&&) noexcept = default;
DigestStream& DigestStream::operator=(DigestStream&&) noexcept = default;

void DigestStream::Update(const void* data, size_t num_bytes) { XXH3_64bits_update(&state_->xxh, data, num_bytes); }
uint64_t DigestStream::Value() const { return XXH3_64bits_digest(&state_->xxh); }

}  // namespace april
