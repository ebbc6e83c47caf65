// The split expressions of the supported families, as their tokenizer.json files spell them.
#pragma once

namespace april::text {

/// GPT-2's; what ByteLevel with use_regex means.
inline constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
/// What Digits means, with and without individual_digits.
inline constexpr char kDigitPattern[] = R"(\p{N})";
inline constexpr char kDigitsPattern[] = R"(\p{N}+)";
/// What Metaspace with split means, and its letter for the space (U+2581).
inline constexpr char kWordPattern[] = " [^ ]*";
inline constexpr char kSpaceLetter[] = "\xE2\x96\x81";

}  // namespace april::text
