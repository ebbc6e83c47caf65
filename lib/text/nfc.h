// Unicode normal form C, which the Qwen tokenizers bring text to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace april::text {

/// Canonical composition of valid UTF-8.
///   Source  Unicode Standard Annex #15; section 3.12 of the Unicode Standard for Hangul.   Parity  tests/parity/tokenizer.py
std::string ToNfc(std::string_view text);

struct NfcDecomposition {
  uint32_t character, first, second;
  uint32_t composes;
};
struct NfcClass {
  uint32_t first, last, value;
};
extern const NfcDecomposition kNfcDecompositions[];
extern const size_t kNumNfcDecompositions;
extern const NfcClass kNfcClasses[];
extern const size_t kNumNfcClasses;

}  // namespace april::text
