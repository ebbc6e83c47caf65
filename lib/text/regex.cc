#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/clock.h"
#include "base/error.h"

namespace april::text {
namespace {

// Unicode's White_Space. PCRE2's own \s also has U+180E, which left that property long ago.
constexpr std::string_view kWhiteSpace = R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr size_t kJitStackBytes = 32u << 20;

/// The pattern with \s and \S spelt out. \S inside a class cannot be spelt out and keeps PCRE2's meaning.
std::string SpellOutWhiteSpace(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += in_class ? std::string(kWhiteSpace) : "[" + std::string(kWhiteSpace) + "]";
      } else if (escaped == 'S' && !in_class) {
        out += "[^" + std::string(kWhiteSpace) + "]";
      } else {
        out += c;
        out += escaped;
      }
      continue;
    }
    out += c;
    if (!in_class && c == '[') {
      in_class = true;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];  // a leading ] is a member
    } else if (in_class && c == '[' && i + 1 < pattern.size() && pattern[i + 1] == ':') {
      const size_t close = pattern.find(":]", i);
      if (close != std::string::npos) {
        out.append(pattern, i + 1, close + 1 - i);
        i = close + 1;
      }
    } else if (in_class && c == ']') {
      in_class = false;
    }
  }
  return out;
}

std::string ErrorText(int code) {
  PCRE2_UCHAR text[160];
  return pcre2_get_error_message(code, text, sizeof text) < 0 ? "error " + std::to_string(code) : reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  uint32_t num_captures = 0;
  ~Compiled() { pcre2_code_free(code); }
};

/// What one search needs to itself.
struct Regex::Run {
  pcre2_match_data* match = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  int64_t deadline_ns = 0;
  uint32_t callouts = 0;

  explicit Run(const Regex& regex) {
    match = pcre2_match_data_create_from_pattern(regex.compiled_->code, nullptr);
    context = pcre2_match_context_create(nullptr);
    if (match == nullptr || context == nullptr) throw Error::Runtime("no memory to match a regular expression");
    const RegexLimits& limits = regex.limits_;
    if (limits.max_steps > 0) pcre2_set_match_limit(context, limits.max_steps);
    pcre2_set_heap_limit(context, limits.max_memory_kib);
    if (limits.timeout_ms > 0) {
      deadline_ns = SystemClock().MonotonicNs() + limits.timeout_ms * 1'000'000;
      pcre2_set_callout(context, &Run::OnCallout, this);
    }
  }
  ~Run() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  static int OnCallout(pcre2_callout_block*, void* data) {
    auto* run = static_cast<Run*>(data);
    if ((++run->callouts & 0xFF) != 0) return 0;
    return SystemClock().MonotonicNs() < run->deadline_ns ? 0 : PCRE2_ERROR_CALLOUT;
  }

  /// PCRE2's result; a pattern that outgrows the small default stack is tried again with a large one.
  int Search(const Regex& regex, std::string_view text, size_t from) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
    const auto once = [&] { return pcre2_match(regex.compiled_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match, context); };
    int result = once();
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {
      stack = pcre2_jit_stack_create(32u << 10, kJitStackBytes, nullptr);
      pcre2_jit_stack_assign(context, nullptr, stack);
      result = once();
    }
    return result;
  }
};

Regex::Regex(const std::string& pattern, const RegexLimits& limits) : pattern_(pattern), limits_(limits), compiled_(std::make_unique<Compiled>()) {
  const std::string spelt = SpellOutWhiteSpace(pattern);
  int code = 0;
  size_t offset = 0;
  // \C would split a character; a callout between all items is where a deadline is looked at.
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | (limits.timeout_ms > 0 ? PCRE2_AUTO_CALLOUT : 0u);
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelt.data()), spelt.size(), options, &code, &offset, nullptr);
  if (compiled_->code == nullptr) {
    throw Error::Usage("regular expression '" + pattern + "': " + ErrorText(code) + " (at byte " + std::to_string(offset) +
                       (spelt == pattern ? "" : " of its form with \\s spelt out: '" + spelt + "'") + ")");
  }
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter gives the same matches, more slowly
  pcre2_pattern_info(compiled_->code, PCRE2_INFO_CAPTURECOUNT, &compiled_->num_captures);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

uint32_t Regex::num_captures() const { return compiled_->num_captures; }

Regex::Outcome Regex::Search(std::string_view text, size_t from, std::vector<Group>* groups) const {
  Run run(*this);
  const int result = run.Search(*this, text, from);
  if (result == PCRE2_ERROR_NOMATCH) return Outcome::kNoMatch;
  if (result == PCRE2_ERROR_CALLOUT) return Outcome::kTimeout;
  if (result < 0) return Outcome::kLimit;
  const size_t* bounds = pcre2_get_ovector_pointer(run.match);
  groups->assign(compiled_->num_captures + 1, {});
  for (size_t i = 0; i < static_cast<size_t>(result); ++i) {
    if (bounds[2 * i] != PCRE2_UNSET) (*groups)[i] = {bounds[2 * i], bounds[2 * i + 1], true};
  }
  return Outcome::kMatch;
}

Regex::Matcher::Matcher(const Regex& regex) : regex_(regex), run_(std::make_unique<Run>(regex)) {}
Regex::Matcher::~Matcher() = default;

void Regex::Matcher::Start(std::string_view text) {
  text_ = text;
  offset_ = 0;
}

bool Regex::Matcher::Next(size_t* start, size_t* end) {
  while (offset_ <= text_.size()) {
    const int result = run_->Search(regex_, text_, offset_);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) throw Error::Runtime("regular expression '" + regex_.pattern_ + "' met a limit: " + ErrorText(result));
    const size_t* bounds = pcre2_get_ovector_pointer(run_->match);
    *start = bounds[0];
    *end = bounds[1];
    offset_ = *end;
    if (*end > *start) return true;
    do ++offset_;  // an empty match: on to the next character
    while (offset_ < text_.size() && (static_cast<unsigned char>(text_[offset_]) & 0xC0) == 0x80);
  }
  return false;
}

}  // namespace april::text
