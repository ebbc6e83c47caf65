// show: everything about one rollout, or one group.
#include <unistd.h>

#include <algorithm>
#include <span>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/audit.h"
#include "buffer/history.h"
#include "buffer/listing.h"
#include "buffer/printed_lines.h"
#include "buffer/readable.h"
#include "record/view.h"

namespace april::buffer {
namespace {

double AgeSeconds(const Store& store, int64_t ns) { return static_cast<double>(store.clock().WallNs() - ns) * 1e-9; }

/// The response, each stretch of one policy version in a colour of its own.
std::string ColoredResponse(const text::Tokenizer& tokenizer, const record::Rollout& rollout, bool color) {
  const std::span<const uint32_t> shown = ShownTokens(tokenizer, rollout);
  if (!color || rollout.weight_versions.empty()) return Printable(tokenizer.Decode(shown, false));
  std::string text;
  size_t next = 0;
  const auto add = [&](int64_t end, const std::string& begin_color) {
    const size_t stop = std::min(static_cast<size_t>(end), shown.size());
    if (stop > next)
      text += begin_color + Printable(tokenizer.Decode(shown.subspan(next, stop - next), false, /*at_beginning=*/next == 0)) + (begin_color.empty() ? "" : "\x1b[0m");
    next = std::max(next, stop);
  };
  for (const record::WeightSpan& span : rollout.weight_versions) {
    constexpr int kColors[] = {36, 33, 35, 32, 34, 31};
    add(span.start, "");
    add(span.end, Format("\x1b[%dm", kColors[span.version % std::size(kColors)]));
  }
  add(static_cast<int64_t>(shown.size()), "");
  return text;
}

std::string Describe(const Store& store, const record::Rollout& rollout, const GroupMeta& group, const RolloutMeta& meta) {
  std::string text = Line("uid", HexU64(rollout.uid));
  text += Line("prompt", rollout.prompt_id + ", epoch " + std::to_string(rollout.epoch) + ", member " + std::to_string(rollout.index) + " of " +
                             std::to_string(rollout.group_size) + " of group " + HexU64(rollout.group_id));
  text += Line("state", std::string(Name(meta.state)) + ", group " + std::string(Name(group.state)) + ", changed " +
                            HumanSeconds(AgeSeconds(store, meta.changed_ns)) + " ago");
  if (meta.state == RolloutState::kLeased) text += Line("worker", WorkerOf(store.state(), meta));
  text += Line("tokens", std::to_string(rollout.tokens.size()) + " of at most " + std::to_string(rollout.max_tokens) + ", prompt " +
                             std::to_string(rollout.prompt_tokens.size()) + ", " + Count(rollout.resumes, "resume") + ", issued " +
                             Count(meta.lease_epoch, "time") +
                             (rollout.finish == record::Finish::kNone ? "" : std::string(", finish ") + record::FinishText(rollout.finish)));
  for (const record::WeightSpan& span : rollout.weight_versions) {
    text += Line("version", std::to_string(span.version) + " made tokens " + std::to_string(span.start) + " to " + std::to_string(span.end) +
                                ", weights " + HexU64(span.weights));
  }
  for (const record::Segment& segment : rollout.segments) {
    text += Line("segment", "tokens " + std::to_string(segment.start) + " to " + std::to_string(segment.start + segment.len) + ", " + segment.kind +
                                " by " + segment.engine + (segment.kernels.empty() ? "" : " on " + segment.kernels) + ", kv " + segment.kv +
                                Format(", %.0f ms", segment.wall_ms));
  }
  if (rollout.label) text += Line("label", *rollout.label);
  if (rollout.reward) {
    const record::Reward& reward = *rollout.reward;
    text += Line("reward", (reward.status == "ok" ? Format("%g", reward.value) : reward.status) + " by " + reward.scorer +
                               (reward.detail.empty() ? "" : ": " + reward.detail));
    for (const auto& [part, value] : reward.parts) text += Line("", part + " " + Format("%g", value));
  }
  return text;
}

std::string HistoryText(const History& history) {
  std::string text = "--- history (times are UTC)\n";
  for (const HistoryEvent& event : history.events)
    text += TimeText(event.ns) + "  " + Printable(event.what) + "\n" + Format("%24s  ", "") + DescribePosition(event.at) + "\n";
  return text;
}

Json HistoryJson(const History& history) {
  Json events = Json::array();
  for (const HistoryEvent& event : history.events) {
    events.push_back({{"ns", event.ns},
                      {"time", TimeText(event.ns)},
                      {"segment", SegmentPath(event.at.segment)},
                      {"frame", event.at.frame},
                      {"entry", event.at.entry},
                      {"what", event.what}});
  }
  return events;
}

template <typename Row>
Json RowJson(const std::vector<Column<Row>>& columns, const Row& row) {
  Json json = Json::object();
  for (const auto& column : columns) json[column.name] = CellJson(column, row);
  return json;
}

class Show {
 public:
  explicit Show(const ShowOptions& options) : options_(options), store_(SystemFiles(), SystemClock(), options.store.store) {}

  void Run() {
    const History history = ReadHistory(SystemFiles(), options_.store.store, options_.uid);
    if (history.uid == 0) {
      ShowGroup(history);
    } else if (const auto key = store_.state().FindRollout(history.uid)) {
      ShowKept(history, *key);
    } else {
      ShowForgotten(history);
    }
  }

 private:
  void ShowKept(const History& history, uint64_t key) {
    const GroupMeta& group = store_.state().group(AdmissionOf(key));
    const RolloutRow row{store_, key, group, store_.state().rollout(key)};
    if (options_.json) {
      Json json = RowJson(RolloutColumns(), row);
      json["history"] = HistoryJson(history);
      return PrintOut(json.dump() + "\n");
    }
    const record::Rollout rollout = store_.ReadRollout(key);
    PrintOut(Describe(store_, rollout, group, row.rollout) + HistoryText(history));
    PrintTexts(rollout);
  }

  /// Trained long ago: the state has nothing of it, the journal still does until it is compacted.
  void ShowForgotten(const History& history) {
    if (options_.json) {
      Json json = {{"uid", HexU64(history.uid)}, {"group_id", HexU64(history.group_id)}, {"state", "forgotten"}};
      if (history.journaled) json["tokens"] = history.journaled->tokens.size();
      json["history"] = HistoryJson(history);
      return PrintOut(json.dump() + "\n");
    }
    PrintOut(Line("uid", HexU64(history.uid)) + Line("group", HexU64(history.group_id)) +
             Line("state", "forgotten: trained, and older than the steps that are kept; this is what the journal still has") + HistoryText(history));
    if (history.journaled) PrintTexts(*history.journaled);
  }

  void ShowGroup(const History& history) {
    std::string text = Line("group", HexU64(history.group_id));
    Json json = {{"group_id", HexU64(history.group_id)}};
    for (const uint64_t uid : history.members) {
      const auto key = store_.state().FindRollout(uid);
      if (!key) {
        text += Line("member", HexU64(uid) + " forgotten");
        continue;
      }
      const GroupMeta& group = store_.state().group(AdmissionOf(*key));
      const RolloutRow row{store_, *key, group, store_.state().rollout(*key)};
      if (IndexOf(*key) == 0) {
        json = RowJson(GroupColumns(), GroupRow{store_, AdmissionOf(*key), group});
        text += Line("state", std::string(Name(group.state)) + ", opened " + HumanSeconds(AgeSeconds(store_, group.opened_ns)) + " ago");
        text += Line("prompt", store_.ReadPrompt(group.prompt).prompt_id + ", epoch " + std::to_string(group.epoch));
      }
      json["rollouts"].push_back(RowJson(RolloutColumns(), row));
      text += Line("member", HexU64(uid) + " " + std::string(Name(row.rollout.state)) + ", " + std::to_string(row.rollout.tokens) +
                                 " tokens, reward " + CellText(FindColumn(RolloutColumns(), "reward"), row));
    }
    json["history"] = HistoryJson(history);
    PrintOut(options_.json ? json.dump() + "\n" : text + HistoryText(history));
  }

  void PrintTexts(const record::Rollout& rollout) {
    const auto tokenizer = LoadTokenizer(options_.model, store_);
    const bool color = options_.color == "always" || (options_.color == "auto" && ::isatty(STDOUT_FILENO) == 1);
    PrintOut("--- prompt\n" + Printable(PromptText(*tokenizer, rollout)) + "\n--- response\n" + ColoredResponse(*tokenizer, rollout, color) + "\n");
  }

  const ShowOptions& options_;
  Store store_;
};

}  // namespace

void RunShow(const ShowOptions& options, Invocation& invocation) {
  for (const char* name : {"model", "color"}) {
    if (options.json && invocation.given(name)) throw Error::Usage(std::string("--") + name + " has no effect with --json", "leave one of them out");
  }
  Show(options).Run();
}

}  // namespace april::buffer
