// Makes the strings of tests/parity/tokenizer_strings.py; see there.
#include "parity_strings.h"

#include <vector>

#include "base/rng.h"
#include "base/utf8.h"

namespace april {
namespace {

using Ranges = std::vector<std::pair<char32_t, char32_t>>;
using Texts = std::vector<std::string>;

const Ranges kScripts = {{0x61, 0x7a},     {0x41, 0x5a},     {0xc0, 0xd6},     {0xe0, 0xf6},       {0x100, 0x17f},
                         {0x391, 0x3a1},   {0x3b1, 0x3c9},   {0x410, 0x44f},   {0x5d0, 0x5ea},     {0x627, 0x63a},
                         {0x905, 0x939},   {0x93e, 0x94d},   {0xe01, 0xe30},   {0x10d0, 0x10f0},   {0x1100, 0x1112},
                         {0x1161, 0x1175}, {0x11a8, 0x11c2}, {0x1e00, 0x1ef9}, {0x3041, 0x3096},   {0x30a1, 0x30fa},
                         {0x4e00, 0x9fa5}, {0xac00, 0xd7a3}, {0xf900, 0xfa0d}, {0x1d400, 0x1d454}, {0x20000, 0x2a6d6}};
const Ranges kDigits = {{0x30, 0x39},     {0x660, 0x669},   {0x966, 0x96f},   {0xb2, 0xb3},      {0xbc, 0xbe},
                        {0x2160, 0x2188}, {0x2460, 0x2473}, {0xff10, 0xff19}, {0x1d7ce, 0x1d7ff}};
const Ranges kMarks = {{0x300, 0x345}, {0x591, 0x5bd}, {0x64b, 0x652}, {0x20d0, 0x20dc}, {0x302a, 0x302f}, {0xfe20, 0xfe23}, {0x1d165, 0x1d169}};
const Ranges kSymbols = {{0x21, 0x2f},     {0x3a, 0x40},     {0x5b, 0x60},     {0x7b, 0x7e},     {0xa1, 0xbf},     {0x2010, 0x2027},
                         {0x20a0, 0x20ac}, {0x2190, 0x21ff}, {0x2200, 0x22ff}, {0x2500, 0x257f}, {0x3001, 0x3003}, {0x1f300, 0x1f320}};
const Ranges kControls = {{0x0, 0x1f},      {0x7f, 0x9f},     {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x2064},
                          {0xfeff, 0xfeff}, {0xfffd, 0xfffd}, {0xe000, 0xe010}, {0x180e, 0x180e}};
const Texts kSpaces = {" ",  "  ",  "   ", "    ", "        ", "\t",           "\t\t",         "\n",           "\n\n",     "\r\n", "\r\n\r\n",
                       "\r", " \n", "\n ", " \t",  "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\x83", "\xe2\x80\xa8", "\xc2\x85", "\x0b", "\x0c"};
const Texts kWords = {"the",
                      "The",
                      "of",
                      "and",
                      "to",
                      "in",
                      "is",
                      "What",
                      "answer",
                      "number",
                      "step",
                      "therefore",
                      "HTTPServer",
                      "camelCase",
                      "snake_case",
                      "don't",
                      "I'll",
                      "WE'RE",
                      "it's",
                      "they've",
                      "he'd",
                      "I'm",
                      "'s",
                      "'Tis",
                      "O'Brien",
                      "l'\xc3\xa9t\xc3\xa9",
                      "na\xc3\xafve",
                      "Stra\xc3\x9f"
                      "e",
                      "1st",
                      "x2",
                      "3.14159",
                      "1,000,000",
                      "0x7fff",
                      "1e-5",
                      "$5",
                      "50%",
                      "a+b=c",
                      "\xe2\x80\x99s",
                      "'\xc5\xbf",
                      "K\xe2\x84\xaa"};
const Texts kCode = {"def f(x):\n    return x ** 2\n",
                     "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
                     "#include <vector>\r\n",
                     "SELECT * FROM t WHERE id != 3;",
                     "<div class=\"a\">&nbsp;</div>",
                     "{\"key\": [1, 2, null], \"b\": true}",
                     "if x == 'y':\n        pass",
                     "\\frac{1}{2} + \\sqrt{x^2}",
                     "// TODO\n\n\n",
                     "let s = `a${b}`;",
                     "https://example.org/a/b?c=d&e=%20f#g",
                     "$ ls -la | grep \"x\" > /dev/null 2>&1"};
const Texts kEmoji = {"\xf0\x9f\x98\x80",
                      "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd",
                      "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7\xe2\x80\x8d\xf0\x9f\x91\xa6",
                      "\xf0\x9f\x8f\xb3\xef\xb8\x8f\xe2\x80\x8d\xf0\x9f\x8c\x88",
                      "\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa",
                      "\xe2\x9d\xa4\xef\xb8\x8f",
                      "1\xef\xb8\x8f\xe2\x83\xa3",
                      "\xe2\x98\xba",
                      "\xf0\x9f\xa7\x91\xf0\x9f\x8f\xbf\xe2\x80\x8d\xf0\x9f\x9a\x80",
                      "\xf0\x9f\x8f\xb4\xf3\xa0\x81\xa7\xf3\xa0\x81\xa2\xf3\xa0\x81\xa5\xf3\xa0\x81\xae\xf3\xa0\x81\xa7\xf3\xa0\x81\xbf"};
const Texts kSpecial = {"<|endoftext|>", "<|im_start|>",
                        "<|im_end|>",    "<|im_start|>user\n",
                        "<|im_end|>\n",  "<|im_",
                        "<|endoftext",   "|>",
                        "<repo_name>",   "<file_sep>",
                        "<think>",       "</think>",
                        "<tool_call>",   "<|begin_of_text|>",
                        "<|eot_id|>",    "<|start_header_id|>",
                        "<<|im_end|>>",  "<|im_end|><|im_end|>",
                        " <|im_end|> "};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t count) { return Mix64(state_ += 0x9E3779B97F4A7C15u) % count; }
  template <typename T>
  const T& Pick(const std::vector<T>& items) {
    return items[Below(items.size())];
  }

 private:
  uint64_t state_;
};

std::string Characters(Random& random, const Ranges& ranges, uint64_t most) {
  const auto [first, last] = random.Pick(ranges);
  std::string text;
  for (uint64_t left = 1 + random.Below(most); left > 0; --left) AppendChar(first + static_cast<char32_t>(random.Below(last - first + 1)), &text);
  return text;
}

std::string Fragment(Random& random) {
  const uint64_t kind = random.Below(16);
  if (kind <= 2) return random.Pick(kWords);
  if (kind == 3) return " " + random.Pick(kWords);
  if (kind == 4) return random.Pick(kCode);
  if (kind <= 6) return Characters(random, kScripts, 8);
  if (kind == 7) return " " + Characters(random, kScripts, 12);
  if (kind == 8) return Characters(random, kDigits, 9);
  if (kind == 9) return random.Pick(kEmoji);
  if (kind == 10) {
    const std::string letters = Characters(random, kScripts, 2);
    return letters + Characters(random, kMarks, 3);
  }
  if (kind == 11) return Characters(random, kSymbols, 5);
  if (kind == 12) return random.Pick(kSpecial);
  if (kind == 13) return Characters(random, kControls, 3);
  std::string spaces;
  for (uint64_t left = 1 + random.Below(4); left > 0; --left) spaces += random.Pick(kSpaces);
  return spaces;
}

}  // namespace

std::string ParityString(uint64_t index) {
  Random random(index);
  if (index % 1000 == 499) return Characters(random, Ranges(kScripts.begin(), kScripts.begin() + 4), 5000);
  if (index % 1000 == 999) return " " + Characters(random, {{0x20, 0x20}}, 5000);
  std::string text;
  for (uint64_t left = 1 + random.Below(14); left > 0; --left) text += Fragment(random);
  return text;
}

}  // namespace april
