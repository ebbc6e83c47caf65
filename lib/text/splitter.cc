#include "text/splitter.h"

#include "base/error.h"
#include "base/utf8.h"

namespace april::text {
namespace {

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t StartOfLastChar(std::string_view text) {
  size_t offset = text.size() - 1;
  while (offset > 0 && (static_cast<unsigned char>(text[offset]) & 0xC0) == 0x80) --offset;
  return offset;
}

/// Whether the one character is part of a word.
bool IsWordChar(std::string_view character) {
  static const Regex word(R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}])");
  std::vector<Regex::Group> groups;
  return word.Search(character, 0, &groups) == Regex::Outcome::kMatch;
}

bool TouchesWord(std::string_view text, size_t start, size_t end) {
  if (start > 0) {
    const std::string_view before = text.substr(0, start);
    if (IsWordChar(before.substr(StartOfLastChar(before)))) return true;
  }
  if (end == text.size()) return false;
  size_t next = end;
  NextChar(text, &next);
  return IsWordChar(text.substr(end, next - end));
}

}  // namespace

Splitter::Splitter(const std::vector<SplitStep>& steps) {
  for (const SplitStep& step : steps) {
    if (step.kind == SplitStep::Kind::kPrefixSpace) {
      steps_.emplace_back(std::nullopt);
    } else {
      try {
        steps_.emplace_back(Regex(step.pattern));
      } catch (const Error& error) {  // it came with the model, not from the command line
        throw Error::Incompatible("tokenizer's split: " + error.message());
      }
    }
  }
}

void Splitter::Split(std::string_view text, std::vector<std::string_view>* pieces, std::deque<std::string>* storage) const {
  if (text.empty()) return;
  std::vector<std::string_view> current{text}, next;
  for (const std::optional<Regex>& step : steps_) {
    next.clear();
    std::optional<Regex::Matcher> matcher;
    if (step) matcher.emplace(*step);
    for (std::string_view piece : current) {
      if (!step) {
        if (!piece.starts_with(' ')) piece = storage->emplace_back(" " + std::string(piece));
        next.push_back(piece);
        continue;
      }
      matcher->Start(piece);
      size_t done = 0, start = 0, end = 0;
      while (matcher->Next(&start, &end)) {
        if (start > done) next.push_back(piece.substr(done, start - done));
        next.push_back(piece.substr(start, end - start));
        done = end;
      }
      if (done < piece.size()) next.push_back(piece.substr(done));
    }
    std::swap(current, next);
  }
  pieces->insert(pieces->end(), current.begin(), current.end());
}

AddedTokenFinder::AddedTokenFinder(std::vector<const AddedToken*> tokens) : nodes_(1) {
  for (const AddedToken* token : tokens) {
    if (token->content.empty()) continue;
    starts_[static_cast<unsigned char>(token->content[0])] = true;
    uint32_t node = 0;
    for (const char c : token->content) {
      const auto byte = static_cast<unsigned char>(c);
      uint32_t child = 0;
      for (const auto& [key, index] : nodes_[node].children) {
        if (key == byte) child = index;
      }
      if (child == 0) {
        child = static_cast<uint32_t>(nodes_.size());
        nodes_[node].children.emplace_back(byte, child);
        nodes_.emplace_back();
      }
      node = child;
    }
    nodes_[node].token = token;
  }
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, size_t offset) const {
  const AddedToken* longest = nullptr;
  for (uint32_t node = 0; offset < text.size(); ++offset) {
    uint32_t child = 0;
    for (const auto& [key, index] : nodes_[node].children) {
      if (key == static_cast<unsigned char>(text[offset])) child = index;
    }
    if (child == 0) break;
    node = child;
    if (nodes_[node].token != nullptr) longest = nodes_[node].token;
  }
  return longest;
}

std::vector<AddedTokenFinder::Found> AddedTokenFinder::Find(std::string_view text, bool special) const {
  std::vector<Found> found;
  size_t free_from = 0;  // end of the last token, with the white space that it took
  for (size_t offset = 0; offset < text.size();) {
    const AddedToken* token = starts_[static_cast<unsigned char>(text[offset])] ? LongestAt(text, offset) : nullptr;
    if (token == nullptr) {
      ++offset;
      continue;
    }
    size_t start = offset, end = offset + token->content.size();
    offset = end;  // a match that is not wanted still hides shorter ones, as in the reference
    if ((token->special && !special) || start < free_from || (token->single_word && TouchesWord(text, start, end))) continue;
    if (token->lstrip) {
      while (start > free_from) {
        size_t previous = StartOfLastChar(text.substr(0, start)), after = previous;
        if (!IsWhiteSpace(NextChar(text, &after))) break;
        start = previous;
      }
    }
    if (token->rstrip) {
      for (size_t next = end; next < text.size() && IsWhiteSpace(NextChar(text, &next));) end = next;
    }
    found.push_back({start, end, token});
    free_from = end;
  }
  return found;
}

}  // namespace april::text
