// What a tokenizer is, independent of the file that it came from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace april::text {

/// A token that is found in the text before anything else is done with it.
struct AddedToken {
  uint32_t id = 0;
  std::string content;
  bool special = false;      ///< a control token: skipped on request, not matched in text from outside
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space behind it along
  bool single_word = false;  ///< only where no word character touches it
  bool normalized = false;   ///< looked for in the normalised text
};

/// One step of the pre-tokeniser.
struct SplitStep {
  enum class Kind {
    kRegex,        ///< cuts around each match of `pattern`, matches and gaps are pieces
    kPrefixSpace,  ///< puts a space in front of a piece that does not begin with one
  };
  Kind kind = Kind::kRegex;
  std::string pattern;
  bool operator==(const SplitStep&) const = default;
};

/// What SentencePiece's BPE has beside: text is not cut into words, spaces are letters of tokens (written U+2581 in files, a space here), merging
/// starts from characters, and a character that no token has becomes the tokens of its bytes.
struct SentencePiece {
  enum class Prefix {
    kNone,
    kAlways,   ///< a space in front of each stretch between added tokens (Llama 1 and 2, and every GGUF file)
    kLacking,  ///< in front of each stretch that does not begin with one
    kFirst,    ///< only of the text's beginning, when it is no added token and does not begin with a space (newer files)
  };
  Prefix prefix = Prefix::kNone;
  bool strips_space = false;          ///< one space at the beginning of decoded text is the prefix, and left out
  std::vector<uint32_t> byte_tokens;  ///< 256 ids; empty: there are none
};

struct TokenizerSpec {
  std::string source;                                 ///< file, for messages
  std::vector<std::optional<std::string>> tokens;     ///< bytes by id; nullopt: unused. Added tokens: their content
  std::vector<std::pair<uint32_t, uint32_t>> merges;  ///< in order of rank
  std::vector<uint32_t> merged;                       ///< the token that each merge makes
  std::vector<AddedToken> added;                      ///< ascending by id
  bool nfc = false;                                   ///< text is brought to Unicode normal form C first
  std::vector<SplitStep> split;
  std::optional<SentencePiece> sentencepiece;
  std::optional<uint32_t> unknown_id;  ///< stands for a byte (SentencePiece: a character) that no token has; without it such bytes vanish
  bool fuse_unknown = false;           ///< one for a run of such bytes within a piece
  bool ignore_merges = false;          ///< a piece that is a token is taken whole
  std::vector<uint32_t> plain_prefix;  ///< what stands in front of plain text (BOS)
  std::optional<uint32_t> bos_id, eos_id;
  std::vector<uint32_t> stop_ids;
};

/// From tokenizer.json (text), tokenizer_config.json and generation_config.json ("" when there is none). `source` names the file in messages.
TokenizerSpec SpecFromJson(const std::string& source, const std::string& tokenizer_json, const std::string& tokenizer_config,
                           const std::string& generation_config);
/// From the metadata of a GGUF file.
TokenizerSpec SpecFromGguf(const std::string& path);

/// The 256 byte-level characters: bytes to the text that tokenizer.json and GGUF hold, and back (nullopt when a character is none of them).
std::string ToByteLevel(std::string_view bytes);
std::optional<std::string> FromByteLevel(std::string_view text);

/// SentencePiece's U+2581 for the space: there and back.
std::string ToSentencePiece(std::string_view text);
std::string FromSentencePiece(std::string_view text);
/// The byte that a byte token of SentencePiece ("<0x0A>") is; nullopt for other tokens.
std::optional<unsigned char> ByteOfToken(std::string_view token);
std::string TokenOfByte(unsigned char byte);

}  // namespace april::text
