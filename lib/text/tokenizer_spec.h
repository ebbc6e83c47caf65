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

struct TokenizerSpec {
  std::string source;                                 ///< file, for messages
  std::vector<std::optional<std::string>> tokens;     ///< bytes by id; nullopt: unused. Added tokens: their content
  std::vector<std::pair<uint32_t, uint32_t>> merges;  ///< in order of rank
  std::vector<uint32_t> merged;                       ///< the token that each merge makes
  std::vector<AddedToken> added;                      ///< ascending by id
  bool nfc = false;                                   ///< text is brought to Unicode normal form C first
  std::vector<SplitStep> split;
  std::optional<uint32_t> unknown_id;  ///< stands for a byte that no token has; without it such bytes vanish
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

}  // namespace april::text
