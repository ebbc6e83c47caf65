// BPE tokenizers, byte-level and SentencePiece's, as tokenizer.json and GGUF metadata describe them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace april::text {

/// Text to token ids and back. Immutable.   Thread  all const functions may be called from many threads.
class Tokenizer {
 public:
  /// `path`: a model directory (with tokenizer.json), a tokenizer.json, or a .gguf file.
  /// Throws Runtime (cannot read), Data (damaged), Incompatible (a component that is not supported, by name).
  static std::shared_ptr<const Tokenizer> Load(const std::string& path);
  static std::shared_ptr<const Tokenizer> FromSpec(TokenizerSpec spec);
  ~Tokenizer();

  /// Ids of the text. No token is added in front or behind. With `parse_special` the text of a special token ("<|im_end|>") becomes that token,
  /// without it such text is encoded like any other: use that for text from outside.
  /// Throws Data on invalid UTF-8, naming the byte offset.
  std::vector<uint32_t> Encode(std::string_view text, bool parse_special) const;
  /// Encode with special tokens, and in front what the model wants in front of plain text (Llama 3: its BOS), unless the text begins with it.
  /// For text that no chat template made.
  std::vector<uint32_t> EncodePlainPrompt(std::string_view text) const;

  /// The tokens' bytes, concatenated. They need not be valid UTF-8 (see base/utf8.h). Takes any id: a model's vocabulary may be padded beyond the
  /// tokenizer's, and such an id can be sampled. Of a SentencePiece tokenizer's text the space that begins it is left out, as the references do;
  /// `at_beginning` false: the tokens go on with a text, and all their bytes count.
  std::string Decode(std::span<const uint32_t> ids, bool skip_special, bool at_beginning = true) const;
  bool StripsSpace() const;  ///< whether Decode leaves that space out
  /// Bytes of one token; those of U+FFFD for an id that has none, within the vocabulary or beyond.
  std::string_view TokenBytes(uint32_t id) const;
  bool IsSpecial(uint32_t id) const;                                ///< false for an id outside the vocabulary
  std::optional<uint32_t> FindToken(std::string_view bytes) const;  ///< the token of exactly these bytes

  uint32_t vocab_size() const;  ///< largest id + 1; the model's may be larger (padding)
  std::optional<uint32_t> bos_id() const;
  std::optional<uint32_t> eos_id() const;         ///< the tokenizer's own
  const std::vector<uint32_t>& stop_ids() const;  ///< every token that ends a response, as the model's files name them; ascending
  /// Names the mapping from text to ids: vocabulary, merges, added tokens, normaliser, pre-tokeniser. The same for tokenizer.json and GGUF of one
  /// model; does not depend on stop_ids, bos_id or the chat template.
  uint64_t digest() const;
  const TokenizerSpec& spec() const;

 private:
  Tokenizer();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Turns a growing list of tokens into text, one token at a time.   Thread  one object, one thread.
class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special) : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
  /// What became certain with this token: always valid UTF-8, never half a character; bytes that cannot become one are U+FFFD.
  std::string Append(uint32_t id);
  /// The rest; an unfinished character becomes U+FFFD.
  std::string Finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  bool at_beginning_ = true;
  std::string pending_;
};

}  // namespace april::text
