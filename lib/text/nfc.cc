#include "text/nfc.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "base/utf8.h"

namespace april::text {
namespace {

// Hangul syllables by arithmetic: leading consonant, vowel, trailing consonant.
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr char32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28, kNumSyllables = kNumLeads * kNumVowels * kNumTrails;

uint32_t CombiningClass(char32_t character) {
  if (character < 0x300) return 0;
  const NfcClass* end = kNfcClasses + kNumNfcClasses;
  const NfcClass* range = std::lower_bound(kNfcClasses, end, character, [](const NfcClass& r, char32_t c) { return r.last < c; });
  return range != end && range->first <= character ? range->value : 0;
}

void Decompose(char32_t character, std::u32string* out) {
  if (character < 0xC0) {
    out->push_back(character);
    return;
  }
  if (const char32_t index = character - kSyllables; character >= kSyllables && index < kNumSyllables) {
    out->push_back(kLeads + index / (kNumVowels * kNumTrails));
    out->push_back(kVowels + index % (kNumVowels * kNumTrails) / kNumTrails);
    if (index % kNumTrails != 0) out->push_back(kTrails + index % kNumTrails);
    return;
  }
  const NfcDecomposition* end = kNfcDecompositions + kNumNfcDecompositions;
  const NfcDecomposition* row =
      std::lower_bound(kNfcDecompositions, end, character, [](const NfcDecomposition& r, char32_t c) { return r.character < c; });
  if (row == end || row->character != character) {
    out->push_back(character);
    return;
  }
  Decompose(row->first, out);
  if (row->second != 0) out->push_back(row->second);  // only the first part decomposes further
}

/// Composite of a pair, or 0.
char32_t Compose(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kNumLeads && second >= kVowels && second < kVowels + kNumVowels) {
    return kSyllables + ((first - kLeads) * kNumVowels + (second - kVowels)) * kNumTrails;
  }
  if (first >= kSyllables && first < kSyllables + kNumSyllables && (first - kSyllables) % kNumTrails == 0 && second > kTrails &&
      second < kTrails + kNumTrails) {
    return first + (second - kTrails);
  }
  static const auto pairs = [] {
    std::unordered_map<uint64_t, char32_t> table;
    for (size_t i = 0; i < kNumNfcDecompositions; ++i) {
      const NfcDecomposition& row = kNfcDecompositions[i];
      if (row.composes) table[uint64_t{row.first} << 32 | row.second] = row.character;
    }
    return table;
  }();
  const auto found = pairs.find(uint64_t{first} << 32 | second);
  return found == pairs.end() ? 0 : found->second;
}

}  // namespace

std::string ToNfc(std::string_view text) {
  // Nothing below U+0300 combines or composes with its neighbours, and none of it but composites decomposes; composites stay as they are.
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xCC; })) return std::string(text);

  std::u32string characters;
  for (size_t offset = 0; offset < text.size();) Decompose(NextChar(text, &offset), &characters);

  std::vector<uint32_t> classes(characters.size());
  for (size_t i = 0; i < characters.size(); ++i) classes[i] = CombiningClass(characters[i]);
  for (size_t begin = 0; begin < characters.size();) {  // canonical order: each run of non-starters, stably by class
    size_t end = begin;
    while (end < characters.size() && classes[end] != 0) ++end;
    std::vector<std::pair<uint32_t, char32_t>> run;
    for (size_t i = begin; i < end; ++i) run.emplace_back(classes[i], characters[i]);
    std::stable_sort(run.begin(), run.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = begin; i < end; ++i) std::tie(classes[i], characters[i]) = run[i - begin];
    begin = end + 1;
  }

  std::u32string composed;
  size_t starter = std::u32string::npos;  // index in `composed`
  uint32_t last_class = 0;                // of what was appended after the starter
  for (size_t i = 0; i < characters.size(); ++i) {
    const bool adjacent = starter != std::u32string::npos && starter + 1 == composed.size();
    const bool blocked = !adjacent && last_class >= classes[i];
    if (starter != std::u32string::npos && !blocked) {
      if (const char32_t composite = Compose(composed[starter], characters[i])) {
        composed[starter] = composite;
        continue;
      }
    }
    if (classes[i] == 0) starter = composed.size();
    last_class = classes[i];
    composed.push_back(characters[i]);
  }

  std::string out;
  out.reserve(text.size());
  for (const char32_t character : composed) AppendChar(character, &out);
  return out;
}

}  // namespace april::text
