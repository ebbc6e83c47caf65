#include "buffer/listing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "record/view.h"

namespace april::buffer {
namespace {

double SecondsSince(const Store& store, int64_t ns) { return static_cast<double>(store.clock().WallNs() - ns) * 1e-9; }

std::string Versions(const RolloutMeta& rollout) {
  if (!rollout.has_versions) return "-";
  return rollout.oldest == rollout.newest ? std::to_string(rollout.oldest) : std::to_string(rollout.oldest) + "-" + std::to_string(rollout.newest);
}

bool MayBeClaimed(GroupState group) { return group == GroupState::kOpen || group == GroupState::kReady; }

/// The claim that has the group; nullptr when there is none, or it is forgotten.
const ClaimMeta* ClaimWith(const State& state, uint64_t admission) {
  if (MayBeClaimed(state.group(admission).state)) return nullptr;
  for (int64_t step = state.next_step() - 1; const ClaimMeta* claim = state.FindClaim(step); --step) {
    if (std::find(claim->groups.begin(), claim->groups.end(), admission) != claim->groups.end()) return claim;
  }
  return nullptr;
}

Cell ClaimedStep(const State& state, uint64_t admission) {
  const ClaimMeta* claim = ClaimWith(state, admission);
  return claim ? Cell(claim->step) : Cell();
}

constexpr const char* kStalenessHelp =
    "versions between its oldest token and its claim, or the last commit while none has it; below 0 what a rewind left that is newer";

Cell Staleness(const State& state, uint64_t admission, const RolloutMeta& rollout) {
  if (!rollout.has_versions) return {};
  std::optional<uint64_t> version = state.policy_version();
  if (!MayBeClaimed(state.group(admission).state)) {
    const ClaimMeta* claim = ClaimWith(state, admission);
    if (!claim) return {};
    version = claim->version;
  }
  return static_cast<int64_t>(version.value_or(0)) - static_cast<int64_t>(rollout.oldest);
}

Cell Text(std::string_view text) { return std::string(text); }

bool EndsWith(std::string_view text, std::string_view end) { return text.ends_with(end); }

/// "90", "4k", and for durations "30s", "10m", "2h", "1d".
double ParseNumber(const std::string& text, bool seconds) {
  char* end = nullptr;
  double number = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  static const std::pair<const char*, double> kDurations[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
  static const std::pair<const char*, double> kCounts[] = {{"", 1}, {"k", 1e3}, {"M", 1e6}};
  bool known = end != text.c_str() && std::isfinite(number);
  if (known) {
    known = false;
    const auto scale = [&](const auto& units) {
      for (const auto& [name, factor] : units) {
        if (unit == name) number *= factor, known = true;
      }
    };
    seconds ? scale(kDurations) : scale(kCounts);
  }
  if (!known) throw Error::Usage("\"" + text + "\" is no number", seconds ? "for example 90, 10m, 2h, 1d" : "for example 90, 0.5, 4k");
  return number;
}

std::optional<double> NumberOf(const Cell& cell) {
  if (const auto* integer = std::get_if<int64_t>(&cell)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&cell)) return *real;
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? 1 : 0;
  return std::nullopt;
}

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

struct Comparison {
  std::string name, sign, value;
};

/// "tokens>=200" in its parts.
Comparison ParseComparison(const std::string& text) {
  const size_t at = text.find_first_of("=!<>~");
  if (at == std::string::npos || at == 0)
    throw Error::Usage("--where " + text + ": no comparison", "for example --where tokens>=200, --where worker=gen1, --where uid~3fa");
  const size_t length = at + 1 < text.size() && text[at + 1] == '=' && text[at] != '=' && text[at] != '~' ? 2 : 1;
  Comparison comparison{Trimmed(text.substr(0, at)), text.substr(at, length), Trimmed(text.substr(at + length))};
  if (comparison.sign == "!") throw Error::Usage("--where " + text + ": ! is no comparison", "one of = != < <= > >= ~ (contains)");
  return comparison;
}

bool HoldsForNumber(double seen, const std::string& sign, double wanted) {
  if (sign == "=") return seen == wanted;
  if (sign == "!=") return seen != wanted;
  if (sign == "<") return seen < wanted;
  if (sign == "<=") return seen <= wanted;
  if (sign == ">") return seen > wanted;
  return seen >= wanted;
}

bool HoldsForText(const std::string& seen, const std::string& sign, const std::string& wanted) {
  if (sign == "~") return seen.find(wanted) != std::string::npos;
  return (seen == wanted) == (sign == "=");
}

std::vector<std::string> RolloutStateNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kNumRolloutStates; ++i) names.emplace_back(Name(static_cast<RolloutState>(i)));
  return names;
}
std::vector<std::string> GroupStateNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kNumGroupStates; ++i) names.emplace_back(Name(static_cast<GroupState>(i)));
  return names;
}
std::vector<std::string> StateNames(const std::vector<Column<RolloutRow>>&) { return RolloutStateNames(); }
std::vector<std::string> StateNames(const std::vector<Column<GroupRow>>&) { return GroupStateNames(); }

std::vector<std::string> FinishNames() {
  std::vector<std::string> names;
  for (const record::Finish finish :
       {record::Finish::kNone, record::Finish::kStop, record::Finish::kLength, record::Finish::kAbort, record::Finish::kError})
    names.emplace_back(record::FinishText(finish));
  return names;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// A slip in one of the words that a column may hold would choose nothing, or everything.
template <typename Row>
void CheckWord(const std::vector<Column<Row>>& columns, const Column<Row>& column, const std::string& text, const std::string& value) {
  const std::string_view name = column.name;
  std::vector<std::string> known;
  if (name == "state") known = StateNames(columns);
  if (name == "group_state") known = GroupStateNames();
  if (name == "finish") known = FinishNames();
  if (known.empty() || std::find(known.begin(), known.end(), value) != known.end()) return;
  throw Error::Usage("--where " + text + ": " + column.name + " is never \"" + value + "\"", "one of " + Joined(known));
}

template <typename Row>
std::function<bool(const Row&)> MakeCondition(const std::vector<Column<Row>>& columns, const std::string& text) {
  const Comparison comparison = ParseComparison(text);
  const Column<Row>& column = FindColumn(columns, comparison.name);
  const bool seconds = EndsWith(column.name, "_s");
  const bool ordered = comparison.sign != "=" && comparison.sign != "!=" && comparison.sign != "~";
  if (comparison.value.empty()) {  // "reward=": those that have none
    if (ordered || comparison.sign == "~") throw Error::Usage("--where " + text + ": nothing to compare with");
    return [&column, none = comparison.sign == "="](const Row& row) {
      const Cell cell = column.cell(row);
      const auto* held = std::get_if<std::string>(&cell);
      return (std::holds_alternative<std::monostate>(cell) || (held && held->empty())) == none;
    };
  }
  if (ordered || column.width >= 0) {
    if (column.width < 0) throw Error::Usage("--where " + text + ": " + column.name + " is text", "compare it by =, != or ~ (contains)");
    if (comparison.sign == "~") throw Error::Usage("--where " + text + ": " + column.name + " is a number", "compare it by = != < <= > >=");
    const double wanted = ParseNumber(comparison.value, seconds);
    return [&column, sign = comparison.sign, wanted](const Row& row) {
      const auto seen = NumberOf(column.cell(row));
      return seen && HoldsForNumber(*seen, sign, wanted);
    };
  }
  if (comparison.sign != "~") CheckWord(columns, column, text, comparison.value);
  return [&column, comparison](const Row& row) {
    const Cell cell = column.cell(row);
    const auto* seen = std::get_if<std::string>(&cell);
    return HoldsForText(seen ? *seen : "", comparison.sign, comparison.value);
  };
}

}  // namespace

std::vector<std::string> SplitList(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    parts.push_back(Trimmed(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

std::string WorkerOf(const State& state, const RolloutMeta& rollout) {
  const auto set = state.leases().find(rollout.lease_id);
  return rollout.state == RolloutState::kLeased && set != state.leases().end() ? set->second.worker : "";
}

const std::vector<Column<RolloutRow>>& RolloutColumns() {
  using Row = const RolloutRow&;
  static const std::vector<Column<RolloutRow>> kColumns = {
      {"uid", "UID", -16, "the rollout", [](Row row) { return Text(HexU64(row.rollout.uid)); }},
      {"group_id", "GROUP", -16, "the rollouts of one prompt in one epoch", [](Row row) { return Text(HexU64(row.group.group_id)); }},
      {"index", "INDEX", 5, "place in its group", [](Row row) { return Cell(static_cast<int64_t>(IndexOf(row.key))); }},
      {"prompt", "PROMPT NO", 9, "number of its prompt, in the order of add", [](Row row) { return Cell(row.group.prompt); }},
      {"epoch", "EPOCH", 5, "of the prompt", [](Row row) { return Cell(row.group.epoch); }},
      {"admitted_step", "STEP", 5, "next step when its group was opened", [](Row row) { return Cell(row.group.admitted_step); }},
      {"state", "STATE", -8, "queued, leased, partial, complete, scored, failed", [](Row row) { return Text(Name(row.rollout.state)); }},
      {"group_state", "GROUP IS", -8, "state of its group", [](Row row) { return Text(Name(row.group.state)); }},
      {"tokens", "TOKENS", 6, "journaled tokens of its response", [](Row row) { return Cell(int64_t{row.rollout.tokens}); }},
      {"versions", "VERSIONS", -9, "policy versions that made them", [](Row row) { return Text(Versions(row.rollout)); }},
      {"staleness", "STALE", 5, kStalenessHelp, [](Row row) { return Staleness(row.store.state(), AdmissionOf(row.key), row.rollout); }},
      {"resumes", "RESUMES", 7, "times that it was taken up again", [](Row row) { return Cell(int64_t{row.rollout.resumes}); }},
      {"leases", "LEASES", 6, "times that it was issued", [](Row row) { return Cell(int64_t{row.rollout.lease_epoch}); }},
      {"finish", "FINISH", -6, "none, stop, length, abort, error", [](Row row) { return Text(record::FinishText(row.rollout.finish)); }},
      {"changed_s", "CHANGED", 8, "seconds since the journal last named it",
       [](Row row) { return Cell(SecondsSince(row.store, row.rollout.changed_ns)); }},
      {"age_s", "AGE", 8, "seconds since its group was opened", [](Row row) { return Cell(SecondsSince(row.store, row.group.opened_ns)); }},
      {"ungraded", "UNGRADED", 8, "whether its grader failed or ran out of time", [](Row row) { return Cell(row.rollout.ungraded); }},
      {"reward", "REWARD", 8, "none until it is scored",
       [](Row row) { return row.rollout.has_reward ? Cell(static_cast<double>(row.rollout.reward)) : Cell(); }},
      {"oldest_version", "OLDEST", 6, "policy version of its oldest token",
       [](Row row) { return row.rollout.has_versions ? Cell(int64_t{row.rollout.oldest}) : Cell(); }},
      {"newest_version", "NEWEST", 6, "policy version of its newest token",
       [](Row row) { return row.rollout.has_versions ? Cell(int64_t{row.rollout.newest}) : Cell(); }},
      {"claimed_step", "CLAIMED", 7, "step whose claim has its group", [](Row row) { return ClaimedStep(row.store.state(), AdmissionOf(row.key)); }},
      {"prompt_id", "PROMPT", -16, "id of its prompt", [](Row row) { return Text(row.store.ReadPrompt(row.group.prompt).prompt_id); }},
      {"worker", "WORKER", -8, "who has it leased", [](Row row) { return Text(WorkerOf(row.store.state(), row.rollout)); }},
  };
  return kColumns;
}

const std::vector<Column<GroupRow>>& GroupColumns() {
  using Row = const GroupRow&;
  static const std::vector<Column<GroupRow>> kColumns = {
      {"group_id", "GROUP", -16, "the rollouts of one prompt in one epoch", [](Row row) { return Text(HexU64(row.group.group_id)); }},
      {"state", "STATE", -8, "open, ready, claimed, trained, consumed, dropped", [](Row row) { return Text(Name(row.group.state)); }},
      {"prompt", "PROMPT NO", 9, "number of its prompt, in the order of add", [](Row row) { return Cell(row.group.prompt); }},
      {"epoch", "EPOCH", 6, "of the prompt", [](Row row) { return Cell(row.group.epoch); }},
      {"members", "MEMBERS", 7, "its rollouts", [](Row row) { return Cell(static_cast<int64_t>(row.group.members.size())); }},
      {"ended", "ENDED", 6, "of them scored, failed, or finished without a grade", [](Row row) { return Cell(row.group.num_ended); }},
      {"scored", "SCORED", 6, "of them scored", [](Row row) { return Cell(row.group.num_scored); }},
      {"tokens", "TOKENS", 8, "journaled tokens of all members",
       [](Row row) {
         int64_t tokens = 0;
         for (const RolloutMeta& member : row.group.members) tokens += member.tokens;
         return Cell(tokens);
       }},
      {"reward", "REWARD", 8, "mean of the scored members",
       [](Row row) {
         double sum = 0;
         for (const RolloutMeta& member : row.group.members) sum += member.has_reward ? static_cast<double>(member.reward) : 0;
         return row.group.num_scored == 0 ? Cell() : Cell(sum / static_cast<double>(row.group.num_scored));
       }},
      {"staleness", "STALE", 5, kStalenessHelp,
       [](Row row) {
         Cell most;
         for (const RolloutMeta& member : row.group.members) {
           const Cell cell = Staleness(row.store.state(), row.admission, member);
           if (NumberOf(cell).value_or(-1e300) > NumberOf(most).value_or(-1e300)) most = cell;
         }
         return most;
       }},
      {"admitted_step", "STEP", 6, "next step when it was opened", [](Row row) { return Cell(row.group.admitted_step); }},
      {"opened_s", "OPENED", 8, "seconds since it was opened: its age", [](Row row) { return Cell(SecondsSince(row.store, row.group.opened_ns)); }},
      {"claimed_step", "CLAIMED", 7, "step whose claim has it", [](Row row) { return ClaimedStep(row.store.state(), row.admission); }},
      {"prompt_id", "PROMPT", -16, "id of its prompt", [](Row row) { return Text(row.store.ReadPrompt(row.group.prompt).prompt_id); }},
  };
  return kColumns;
}

template <typename Row>
const Column<Row>& FindColumn(const std::vector<Column<Row>>& columns, const std::string& text) {
  const std::string name = Trimmed(text);
  static const std::pair<const char*, const char*> kShort[] = {{"length", "tokens"}, {"num_tokens", "tokens"}, {"step", "admitted_step"},
                                                               {"age", "opened_s"},  {"age_s", "opened_s"},    {"group_state", "state"}};
  std::string names;
  for (const auto& column : columns) {
    const std::string full = column.name;
    if (full == name || full == name + "_s" || full == name + "_id") return column;
    names += (names.empty() ? "" : ", ") + full;
  }
  for (const auto& alias : kShort) {
    if (alias.first != name) continue;
    const auto found =
        std::find_if(columns.begin(), columns.end(), [&](const auto& column) { return std::string_view(alias.second) == column.name; });
    if (found != columns.end()) return *found;
  }
  throw Error::Usage("there is no column \"" + name + "\"", "one of " + names);
}

template <typename Row>
Filter<Row>::Filter(const std::vector<Column<Row>>& columns, const SelectOptions& options) {
  if (!options.state.empty()) {
    const std::vector<std::string> wanted = SplitList(options.state), known = StateNames(columns);
    for (const std::string& state : wanted) {
      if (std::find(known.begin(), known.end(), state) == known.end())
        throw Error::Usage("--state " + options.state + ": there is no state \"" + state + "\"", "any of " + Joined(known) + ", with commas between");
    }
    const Column<Row>& column = FindColumn(columns, "state");
    conditions_.push_back([&column, wanted](const Row& row) {
      return std::find(wanted.begin(), wanted.end(), std::get<std::string>(column.cell(row))) != wanted.end();
    });
  }
  for (const std::string& text : options.where) conditions_.push_back(MakeCondition(columns, text));
}

template <typename Row>
bool Filter<Row>::Holds(const Row& row) const {
  return std::all_of(conditions_.begin(), conditions_.end(), [&](const auto& condition) { return condition(row); });
}

template <typename Row>
std::string CellText(const Column<Row>& column, const Row& row) {
  const Cell cell = column.cell(row);
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? "yes" : "-";
  if (const auto* integer = std::get_if<int64_t>(&cell)) return std::to_string(*integer);
  const auto* real = std::get_if<double>(&cell);
  if (!real) return "-";
  if (EndsWith(column.name, "_s")) return HumanSeconds(*real);
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", *real);
  return text;
}

template <typename Row>
Json CellJson(const Column<Row>& column, const Row& row) {
  return std::visit(
      [](const auto& value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
          return Json();
        } else {
          return Json(value);
        }
      },
      column.cell(row));
}

int CompareCells(const Cell& a, const Cell& b) {
  const auto x = NumberOf(a), y = NumberOf(b);
  if (x && y) return *x < *y ? -1 : *x > *y;
  if (x || y) return x ? -1 : 1;
  const auto *s = std::get_if<std::string>(&a), *t = std::get_if<std::string>(&b);
  if (s && t) return s->compare(*t);
  return s ? -1 : t ? 1 : 0;
}

void ForEachRollout(Store& store, const SelectOptions& options, const std::function<void(const RolloutRow&)>& visit) {
  const Filter<RolloutRow> filter(RolloutColumns(), options);
  for (const auto& [admission, group] : store.state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const RolloutRow row{store, MakeKey(admission, i), group, group.members[i]};
      if (filter.Holds(row)) visit(row);
    }
  }
}

template const Column<RolloutRow>& FindColumn(const std::vector<Column<RolloutRow>>&, const std::string&);
template const Column<GroupRow>& FindColumn(const std::vector<Column<GroupRow>>&, const std::string&);
template class Filter<RolloutRow>;
template class Filter<GroupRow>;
template std::string CellText(const Column<RolloutRow>&, const RolloutRow&);
template std::string CellText(const Column<GroupRow>&, const GroupRow&);
template Json CellJson(const Column<RolloutRow>&, const RolloutRow&);
template Json CellJson(const Column<GroupRow>&, const GroupRow&);

}  // namespace april::buffer
