// Byte pair encoding of one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_spec.h"

namespace april::text {

/// Immutable.   Thread  Append may be called from many threads.
class Bpe {
 public:
  explicit Bpe(const TokenizerSpec& spec);
  /// Appends the ids of one piece: starting from single bytes, or from characters (SentencePiece), the pair of lowest rank is merged, the leftmost
  /// first, until no pair has a rank. What has no token becomes the unknown token, or nothing when there is none, as in the references.
  ///   Cost  O(n log n) in the piece's length.
  void Append(std::string_view piece, std::vector<uint32_t>* ids) const;

 private:
  struct Merge {
    uint32_t rank, id;
  };
  /// Open addressing on the pair: the lookup is where the time goes.
  class MergeTable {
   public:
    void Build(const TokenizerSpec& spec);
    const Merge* Find(uint32_t left, uint32_t right) const;

   private:
    struct Slot {
      uint64_t pair;
      Merge merge;
    };
    std::vector<Slot> slots_;
    uint64_t mask_ = 0;
  };

  std::vector<uint32_t> Bytes(std::string_view piece) const;
  std::vector<uint32_t> Characters(std::string_view piece) const;
  void MergeShort(std::vector<uint32_t>* symbols) const;
  void MergeLong(std::vector<uint32_t>* symbols) const;

  std::array<uint32_t, 256> byte_ids_{};                  ///< SentencePiece: of the byte tokens
  std::unordered_map<char32_t, uint32_t> character_ids_;  ///< SentencePiece alone
  bool by_character_;
  MergeTable merges_;
  std::unordered_map<std::string_view, uint32_t> whole_;  ///< ignore_merges: pieces that are tokens; views into the spec
  uint32_t unknown_id_;
  bool fuse_unknown_;
};

}  // namespace april::text
