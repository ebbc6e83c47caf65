// grep: a pattern in what models wrote.
#include <algorithm>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/listing.h"
#include "buffer/printed_lines.h"
#include "buffer/readable.h"
#include "text/regex.h"

namespace april::buffer {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

class Grep {
 public:
  Grep(const GrepOptions& options, std::shared_ptr<const text::Tokenizer> tokenizer)
      : options_(options), tokenizer_(std::move(tokenizer)), regex_((options.ignore_case ? "(?i)" : "") + options.pattern) {}

  void Search(const RolloutRow& row) {
    ++searched_;
    const record::Rollout rollout = row.store.ReadRollout(row.key);
    if (options_.prompts) SearchText(row, "prompt", PromptText(*tokenizer_, rollout));
    SearchText(row, "response", ResponseText(*tokenizer_, rollout));
  }

  int64_t searched() const { return searched_; }
  int64_t lines() const { return lines_; }
  int64_t rollouts() const { return static_cast<int64_t>(rollouts_); }

 private:
  void SearchText(const RolloutRow& row, const char* where, const std::string& searched) {
    const std::vector<std::string> lines = Lines(searched);
    size_t told = 0;  // lines before this one were printed
    for (size_t i = 0; i < lines.size(); ++i) {
      std::vector<text::Regex::Group> groups;
      const auto outcome = regex_.Search(lines[i], 0, &groups);
      if (outcome == text::Regex::Outcome::kLimit || outcome == text::Regex::Outcome::kTimeout)
        throw Error::Runtime("the pattern takes too long on rollout " + HexU64(row.rollout.uid), "simplify it: nested repetitions are slow");
      if (outcome != text::Regex::Outcome::kMatch) continue;
      ++lines_;
      if (last_ != row.rollout.uid || rollouts_ == 0) ++rollouts_;
      last_ = row.rollout.uid;
      if (options_.count) continue;
      const auto context = static_cast<size_t>(options_.context);
      const size_t first = i - std::min(i, context), end = std::min(lines.size(), i + context + 1);
      if (options_.json) {
        PrintJson(row, where, i, lines, groups[0], first, end);
        continue;
      }
      for (size_t j = std::max(first, told); j < end; ++j) PrintLine(row, where, j, lines[j], j == i);
      told = std::max(told, end);
    }
  }

  /// As grep prints it: a colon behind the place of a line that matches, a dash behind that of one that stands beside it.
  void PrintLine(const RolloutRow& row, const char* where, size_t line, const std::string& text, bool matches) {
    const char* sign = matches ? ":" : "-";
    PrintOut(HexU64(row.rollout.uid) + sign + where + sign + std::to_string(line + 1) + sign + Printable(text) + "\n");
  }

  void PrintJson(const RolloutRow& row, const char* where, size_t line, const std::vector<std::string>& lines, const text::Regex::Group& match,
                 size_t first, size_t end) {
    const auto at = [&](size_t i) { return lines.begin() + static_cast<std::ptrdiff_t>(i); };
    PrintOut(Json{{"uid", HexU64(row.rollout.uid)},
                  {"group_id", HexU64(row.group.group_id)},
                  {"state", Name(row.rollout.state)},
                  {"in", where},
                  {"line", line + 1},
                  {"text", lines[line]},
                  {"match", lines[line].substr(match.start, match.end - match.start)},
                  {"before", std::vector<std::string>(at(first), at(line))},
                  {"after", std::vector<std::string>(at(line + 1), at(end))}}
                 .dump() +
             "\n");
  }

  const GrepOptions& options_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  text::Regex regex_;
  int64_t searched_ = 0, lines_ = 0;
  size_t rollouts_ = 0;
  uint64_t last_ = 0;
};

}  // namespace

void RunGrep(const GrepOptions& options, Invocation& invocation) {
  if (options.count && invocation.given("context")) throw Error::Usage("--context has no effect with --count", "leave one of them out");
  Store store(SystemFiles(), SystemClock(), options.store.store);
  Grep grep(options, LoadTokenizer(options.model, store));
  ForEachRollout(store, options.select, [&](const RolloutRow& row) { grep.Search(row); });
  if (options.count) {
    PrintOut(options.json ? Json{{"lines", grep.lines()}, {"rollouts", grep.rollouts()}, {"searched", grep.searched()}}.dump() + "\n"
                          : std::to_string(grep.lines()) + "\n");
  }
  invocation.summary = Count(grep.lines(), "line") + " in " + std::to_string(grep.rollouts()) + " of " + Count(grep.searched(), "rollout");
  if (grep.lines() == 0) invocation.exit_code = static_cast<int>(ErrorKind::kRuntime);
}

}  // namespace april::buffer
