#include "base/utf8.h"

namespace april {
namespace {

struct Step {
  size_t length;  ///< bytes of the character, or of the maximal ill-formed part
  bool valid;
  bool unfinished;  ///< ill-formed only because the text ends
};

// The Unicode standard's table of well-formed sequences: the first byte decides the length and the range of the second.
Step StepAt(std::string_view bytes, size_t offset) {
  const auto byte = [&](size_t index) { return static_cast<unsigned char>(bytes[index]); };
  const unsigned char first = byte(offset);
  if (first < 0x80) return {1, true, false};
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (offset + i >= bytes.size()) return {i, false, true};
    if (byte(offset + i) < low || byte(offset + i) > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view bytes) {
  for (size_t offset = 0; offset < bytes.size();) {
    const Step step = StepAt(bytes, offset);
    if (!step.valid) return offset;
    offset += step.length;
  }
  return std::nullopt;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t offset = 0; offset < bytes.size();) {
    const Step step = StepAt(bytes, offset);
    if (step.valid) {
      out.append(bytes.substr(offset, step.length));
    } else {
      out += "\xEF\xBF\xBD";
    }
    offset += step.length;
  }
  return out;
}

size_t UnfinishedUtf8(std::string_view bytes) {
  const size_t longest = bytes.size() < 3 ? bytes.size() : 3;
  for (size_t length = longest; length >= 1; --length) {
    const Step step = StepAt(bytes, bytes.size() - length);
    if (step.unfinished && step.length == length) return length;
  }
  return 0;
}

char32_t NextChar(std::string_view text, size_t* offset) {
  const size_t length = StepAt(text, *offset).length;
  const auto first = static_cast<unsigned char>(text[*offset]);
  char32_t character = length == 1 ? first : first & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) character = (character << 6) | (static_cast<unsigned char>(text[*offset + i]) & 0x3Fu);
  *offset += length;
  return character;
}

void AppendChar(char32_t character, std::string* out) {
  const auto append = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    append(character);
  } else if (character < 0x800) {
    append(0xC0 | (character >> 6));
    append(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    append(0xE0 | (character >> 12));
    append(0x80 | ((character >> 6) & 0x3F));
    append(0x80 | (character & 0x3F));
  } else {
    append(0xF0 | (character >> 18));
    append(0x80 | ((character >> 12) & 0x3F));
    append(0x80 | ((character >> 6) & 0x3F));
    append(0x80 | (character & 0x3F));
  }
}

}  // namespace april
