#include "text/bpe.h"

#include <algorithm>
#include <queue>

#include "base/rng.h"
#include "base/utf8.h"

namespace april::text {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr uint64_t kNoPair = ~uint64_t{0};
constexpr size_t kLongPiece = 48;  // symbols; below, rescanning a few pairs is faster than a heap

uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

void Bpe::MergeTable::Build(const TokenizerSpec& spec) {
  uint64_t size = 16;
  while (size < 2 * spec.merges.size()) size *= 2;
  slots_.assign(size, {kNoPair, {}});
  mask_ = size - 1;
  for (uint32_t rank = 0; rank < spec.merges.size(); ++rank) {
    const uint64_t pair = PairKey(spec.merges[rank].first, spec.merges[rank].second);
    uint64_t slot = Mix64(pair) & mask_;
    while (slots_[slot].pair != kNoPair && slots_[slot].pair != pair) slot = (slot + 1) & mask_;
    slots_[slot] = {pair, {rank, spec.merged[rank]}};  // of a pair that is listed twice the last rank counts, as in the reference
  }
}

const Bpe::Merge* Bpe::MergeTable::Find(uint32_t left, uint32_t right) const {
  const uint64_t pair = PairKey(left, right);
  for (uint64_t slot = Mix64(pair) & mask_;; slot = (slot + 1) & mask_) {
    if (slots_[slot].pair == pair) return &slots_[slot].merge;
    if (slots_[slot].pair == kNoPair) return nullptr;
  }
}

Bpe::Bpe(const TokenizerSpec& spec)
    : by_character_(spec.sentencepiece.has_value()), unknown_id_(spec.unknown_id.value_or(kNone)), fuse_unknown_(spec.fuse_unknown) {
  byte_ids_.fill(kNone);
  std::vector<bool> is_apart(spec.tokens.size());
  for (const AddedToken& token : spec.added) is_apart[token.id] = true;
  if (by_character_) {
    const std::vector<uint32_t>& bytes = spec.sentencepiece->byte_tokens;
    std::copy(bytes.begin(), bytes.end(), byte_ids_.begin());
    for (const uint32_t id : bytes) is_apart[id] = true;
  }
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id] || is_apart[id] || spec.tokens[id]->empty()) continue;
    const std::string& text = *spec.tokens[id];
    if (by_character_) {
      size_t end = 0;
      const char32_t character = NextChar(text, &end);
      if (end == text.size()) character_ids_.emplace(character, id);
    } else if (text.size() == 1) {
      byte_ids_[static_cast<unsigned char>(text[0])] = id;
    }
    if (spec.ignore_merges) whole_.emplace(text, id);
  }
  merges_.Build(spec);
}

std::vector<uint32_t> Bpe::Bytes(std::string_view piece) const {
  std::vector<uint32_t> symbols;
  symbols.reserve(piece.size());
  bool in_unknown = false;
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    const bool unknown = byte_ids_[byte] == kNone;
    if (unknown && unknown_id_ == kNone) continue;
    if (!(unknown && in_unknown && fuse_unknown_)) symbols.push_back(unknown ? unknown_id_ : byte_ids_[byte]);
    in_unknown = unknown;
  }
  return symbols;
}

std::vector<uint32_t> Bpe::Characters(std::string_view piece) const {
  std::vector<uint32_t> symbols;
  symbols.reserve(piece.size());
  bool in_unknown = false;
  for (size_t offset = 0; offset < piece.size();) {
    const size_t start = offset;
    const auto found = character_ids_.find(NextChar(piece, &offset));
    const bool unknown = found == character_ids_.end() && byte_ids_[0] == kNone;  // there are byte tokens for all bytes or for none
    if (found != character_ids_.end()) {
      symbols.push_back(found->second);
    } else if (!unknown) {
      for (const char c : piece.substr(start, offset - start)) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else if (unknown_id_ != kNone && !(in_unknown && fuse_unknown_)) {
      symbols.push_back(unknown_id_);
    }
    in_unknown = unknown;
  }
  return symbols;
}

void Bpe::Append(std::string_view piece, std::vector<uint32_t>* ids) const {
  if (!whole_.empty()) {
    if (const auto found = whole_.find(piece); found != whole_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  std::vector<uint32_t> symbols = by_character_ ? Characters(piece) : Bytes(piece);
  if (symbols.size() < kLongPiece) {
    MergeShort(&symbols);
  } else {
    MergeLong(&symbols);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

void Bpe::MergeShort(std::vector<uint32_t>* symbols) const {
  const Merge* pairs[kLongPiece];  // the merge of each symbol with its right neighbour
  size_t count = symbols->size();
  uint32_t* ids = symbols->data();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.Find(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = count;
    for (size_t i = 0; i + 1 < count; ++i) {
      if (pairs[i] != nullptr && (best == count || pairs[i]->rank < pairs[best]->rank)) best = i;
    }
    if (best == count) break;
    ids[best] = pairs[best]->id;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      ids[i] = ids[i + 1];
      pairs[i] = pairs[i + 1];
    }
    --count;
    if (best + 1 < count) pairs[best] = merges_.Find(ids[best], ids[best + 1]);
    if (best > 0) pairs[best - 1] = merges_.Find(ids[best - 1], ids[best]);
  }
  symbols->resize(count);
}

void Bpe::MergeLong(std::vector<uint32_t>* symbols) const {
  struct Link {
    uint32_t id;
    int64_t previous, next;  // -1: none
  };
  struct Candidate {
    uint32_t rank;
    int64_t left;
    uint32_t left_id, right_id, merged;  // stale when the links hold other ids by now
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const auto count = static_cast<int64_t>(symbols->size());
  std::vector<Link> links(symbols->size());
  for (int64_t i = 0; i < count; ++i) links[i] = {(*symbols)[i], i - 1, i + 1 < count ? i + 1 : -1};

  std::priority_queue<Candidate> queue;
  const auto consider = [&](int64_t left) {
    const int64_t right = links[left].next;
    if (right < 0) return;
    if (const Merge* merge = merges_.Find(links[left].id, links[right].id)) {
      queue.push({merge->rank, left, links[left].id, links[right].id, merge->id});
    }
  };
  for (int64_t i = 0; i + 1 < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Link& left = links[top.left];
    if (left.id != top.left_id || left.next < 0 || links[left.next].id != top.right_id) continue;
    const int64_t gone = left.next;
    left.id = top.merged;
    left.next = links[gone].next;
    links[gone].id = kNone;
    if (left.next >= 0) links[left.next].previous = top.left;
    consider(top.left);
    if (left.previous >= 0) consider(left.previous);
  }
  symbols->clear();
  for (int64_t i = 0; i >= 0; i = links[i].next) symbols->push_back(links[i].id);
}

}  // namespace april::text
