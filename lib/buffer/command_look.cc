// ls, show, stat: what the buffer holds, read without a lock.
#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/hub_client.h"
#include "buffer/look_commands.h"
#include "buffer/prompts.h"
#include "buffer/statistics.h"
#include "buffer/store.h"
#include "text/tokenizer.h"

namespace april::buffer {
namespace {

template <typename... Values>
std::string Format(const char* format, Values... values) {
  const int length = std::snprintf(nullptr, 0, format, values...);
  std::string text(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(text.data(), text.size(), format, values...);
  text.pop_back();
  return text;
}

double AgeSeconds(const Store& store, int64_t ns) { return static_cast<double>(store.clock().WallNs() - ns) * 1e-9; }

std::string Versions(const RolloutMeta& rollout) {
  if (!rollout.has_versions) return "-";
  return rollout.oldest == rollout.newest ? std::to_string(rollout.oldest) : std::to_string(rollout.oldest) + "-" + std::to_string(rollout.newest);
}

std::string WorkerOf(const State& state, const RolloutMeta& rollout) {
  const auto set = state.leases().find(rollout.lease_id);
  return rollout.state == RolloutState::kLeased && set != state.leases().end() ? set->second.worker : "";
}

Json RolloutJson(const Store& store, const GroupMeta& group, size_t index) {
  const RolloutMeta& rollout = group.members[index];
  Json json = {{"uid", HexU64(rollout.uid)},
               {"group_id", HexU64(group.group_id)},
               {"index", index},
               {"prompt", group.prompt},
               {"epoch", group.epoch},
               {"admitted_step", group.admitted_step},
               {"state", Name(rollout.state)},
               {"group_state", Name(group.state)},
               {"tokens", rollout.tokens},
               {"resumes", rollout.resumes},
               {"leases", rollout.lease_epoch},
               {"changed_s", AgeSeconds(store, rollout.changed_ns)},
               {"ungraded", rollout.ungraded}};
  json["reward"] = rollout.has_reward ? Json(rollout.reward) : Json();
  json["oldest_version"] = rollout.has_versions ? Json(rollout.oldest) : Json();
  json["newest_version"] = rollout.has_versions ? Json(rollout.newest) : Json();
  json["worker"] = WorkerOf(store.state(), rollout);
  return json;
}

std::string RewardText(const RolloutMeta& rollout) {
  if (rollout.ungraded) return "error";
  return rollout.has_reward ? Format("%.3f", static_cast<double>(rollout.reward)) : "-";
}

void ListRollouts(const Store& store, const LsOptions& options) {
  if (!options.json) {
    PrintOut(Format("%-16s  %-16s %5s  %-8s  %-8s %6s  %-9s %7s %8s  %-8s %s\n", "UID", "GROUP", "INDEX", "STATE", "GROUP IS", "TOKENS", "VERSIONS",
                    "RESUMES", "REWARD", "CHANGED", "WORKER"));
  }
  for (const auto& [admission, group] : store.state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const RolloutMeta& rollout = group.members[i];
      if (!options.state.empty() && options.state != Name(rollout.state)) continue;
      if (options.json) {
        PrintOut(RolloutJson(store, group, i).dump() + "\n");
        continue;
      }
      PrintOut(Format("%s  %s %5zu  %-8s  %-8s %6d  %-9s %7d %8s  %-8s %s\n", HexU64(rollout.uid).c_str(), HexU64(group.group_id).c_str(), i,
                      std::string(Name(rollout.state)).c_str(), std::string(Name(group.state)).c_str(), rollout.tokens, Versions(rollout).c_str(),
                      rollout.resumes, RewardText(rollout).c_str(), HumanSeconds(AgeSeconds(store, rollout.changed_ns)).c_str(),
                      Printable(WorkerOf(store.state(), rollout)).c_str()));
    }
  }
}

void ListGroups(const Store& store, const LsOptions& options) {
  if (!options.json)
    PrintOut(Format("%-16s  %-8s %9s %6s %6s %8s %6s  %s\n", "GROUP", "STATE", "PROMPT NO", "EPOCH", "ENDED", "SCORED", "STEP", "OPENED"));
  for (const auto& [admission, group] : store.state().groups()) {
    const double age_s = AgeSeconds(store, group.opened_ns);
    if (options.json) {
      PrintOut(Json{{"group_id", HexU64(group.group_id)},
                    {"state", Name(group.state)},
                    {"prompt", group.prompt},
                    {"epoch", group.epoch},
                    {"members", group.members.size()},
                    {"ended", group.num_ended},
                    {"scored", group.num_scored},
                    {"admitted_step", group.admitted_step},
                    {"opened_s", age_s}}
                   .dump() +
               "\n");
      continue;
    }
    PrintOut(Format("%s  %-8s %9" PRId64 " %6" PRId64 " %3" PRId64 "/%-2zu %8" PRId64 " %6" PRId64 "  %s\n", HexU64(group.group_id).c_str(),
                    std::string(Name(group.state)).c_str(), group.prompt, group.epoch, group.num_ended, group.members.size(), group.num_scored,
                    group.admitted_step, HumanSeconds(age_s).c_str()));
  }
}

/// The key of the only rollout whose uid begins with these digits.
uint64_t FindByPrefix(const State& state, const std::string& digits) {
  std::optional<uint64_t> found;
  for (const auto& [admission, group] : state.groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      if (!HexU64(group.members[i].uid).starts_with(digits)) continue;
      if (found) throw Error::Usage("several rollouts begin with " + digits, "give more digits");
      found = MakeKey(admission, i);
    }
  }
  if (!found)
    throw Error::Usage("no rollout that is kept begins with " + digits, "partial-buffer ls lists them; trained ones are kept for --retain-steps");
  return *found;
}

/// The response, each stretch of one policy version in a colour of its own.
std::string ColoredResponse(const text::Tokenizer& tokenizer, const record::Rollout& rollout, bool color) {
  if (!color || rollout.weight_versions.empty()) return Printable(tokenizer.Decode(rollout.tokens, false));
  std::string text;
  size_t next = 0;
  const auto add = [&](int64_t end, const std::string& begin_color) {
    const std::span<const uint32_t> tokens(rollout.tokens.data() + next, static_cast<size_t>(end) - next);
    if (!tokens.empty()) text += begin_color + Printable(tokenizer.Decode(tokens, false)) + (begin_color.empty() ? "" : "\x1b[0m");
    next = static_cast<size_t>(end);
  };
  for (const record::WeightSpan& span : rollout.weight_versions) {
    constexpr int kColors[] = {36, 33, 35, 32, 34, 31};
    add(span.start, "");
    add(span.end, Format("\x1b[%dm", kColors[span.version % std::size(kColors)]));
  }
  add(static_cast<int64_t>(rollout.tokens.size()), "");
  return text;
}

/// What `value` holds may come from a model, a prompt or a worker's name.
std::string Line(const char* name, const std::string& value) { return Format("%-10s ", name) + Printable(value) + "\n"; }

std::string Describe(const Store& store, const record::Rollout& rollout, const GroupMeta& group, const RolloutMeta& meta) {
  std::string text = Line("uid", HexU64(rollout.uid));
  text += Line("prompt", rollout.prompt_id + ", epoch " + std::to_string(rollout.epoch) + ", member " + std::to_string(rollout.index) + " of " +
                             std::to_string(rollout.group_size) + " of group " + HexU64(rollout.group_id));
  text += Line("state", std::string(Name(meta.state)) + ", group " + std::string(Name(group.state)) + ", changed " +
                            HumanSeconds(AgeSeconds(store, meta.changed_ns)) + " ago");
  if (meta.state == RolloutState::kLeased) text += Line("worker", WorkerOf(store.state(), meta));
  text += Line("tokens", std::to_string(rollout.tokens.size()) + " of at most " + std::to_string(rollout.max_tokens) + ", prompt " +
                             std::to_string(rollout.prompt_tokens.size()) + ", " + std::to_string(rollout.resumes) + " resumes, issued " +
                             std::to_string(meta.lease_epoch) + " times");
  for (const record::WeightSpan& span : rollout.weight_versions) {
    text += Line("version", std::to_string(span.version) + " made tokens " + std::to_string(span.start) + " to " + std::to_string(span.end) +
                                ", weights " + HexU64(span.weights));
  }
  if (rollout.label) text += Line("label", *rollout.label);
  if (rollout.reward) {
    const record::Reward& reward = *rollout.reward;
    text += Line("reward", (reward.status == "ok" ? Format("%g", reward.value) : reward.status) + " by " + reward.scorer +
                               (reward.detail.empty() ? "" : ": " + reward.detail));
  }
  return text;
}

std::string CountLine(const Json& counts) {
  std::string text;
  for (const auto& [name, count] : counts.items()) {
    if (count == 0) continue;
    text += (text.empty() ? "" : ", ") + name + " " + count.dump();
  }
  return text.empty() ? "none" : text;
}

std::string LengthLine(const Json& lengths) {
  std::string text = Format("%" PRId64 " rollouts, mean %.1f tokens, longest %" PRId64, lengths["rollouts"].get<int64_t>(),
                            lengths["mean_tokens"].get<double>(), lengths["longest_tokens"].get<int64_t>());
  std::string classes;
  for (const Json& item : lengths["classes"]) {
    if (item["rollouts"] != 0)
      classes += (classes.empty() ? "" : ", ") + std::string("<=") + item["up_to_tokens"].dump() + ": " + item["rollouts"].dump();
  }
  return classes.empty() ? text : text + "  (" + classes + ")";
}

std::string StatText(const Json& stat) {
  std::string text = Line("run", stat["run"].get<std::string>() + (stat["synchronous"].get<bool>() ? ", synchronous" : ", over-issue"));
  text +=
      Line("steps", "next to claim " + stat["next_step"].dump() + ", first uncommitted " + stat["first_uncommitted_step"].dump() +
                        ", first not in a checkpoint " + stat["first_unconsumed_step"].dump() + ", policy version " + stat["policy_version"].dump());
  text += Line("groups", CountLine(stat["groups"]));
  text += Line("rollouts", CountLine(stat["rollouts"]));
  text += Line("tokens", CountLine(stat["tokens"]));
  text += Line("staleness", CountLine(stat["staleness_versions"]) + "  (versions behind, by the oldest token → rollouts)");
  text += Line("resumed", CountLine(stat["resumes"]) + "  (times taken up again → rollouts not trained yet; new weights alone do not count), " +
                              stat["finished_resumes"].dump() + " times in all finished rollouts");
  text += Line("sampled", LengthLine(stat["sampled"]));
  text += Line("trained", LengthLine(stat["trained_lengths"]));
  const Json& trained = stat["trained"];
  text += Line("reward", trained["mean_reward"].is_null() ? "nothing trained yet"
                                                          : Format("mean %.4f over %" PRId64 " trained rollouts",
                                                                   trained["mean_reward"].get<double>(), trained["rollouts"].get<int64_t>()));
  text += Line("late", stat["superseded"]["records"].dump() + " records of old leases, " + stat["superseded"]["tokens"].dump() + " tokens");
  for (const Json& claim : stat["uncommitted"]) {
    text += Line("claim",
                 claim["claim"].get<std::string>() + " of step " + claim["step"].dump() + ": " + claim["groups"].dump() + " groups, not committed");
  }
  for (const Json& lease : stat["leases"]) {
    text += Line("lease", lease["worker"].get<std::string>() + " holds " + lease["rollouts"].dump() + " rollouts, for " +
                              HumanSeconds(lease["age_s"].get<double>()));
  }
  const Json& journal = stat["journal"];
  text +=
      Line("journal", HumanBytes(journal["bytes"].get<uint64_t>()) + " in " + journal["segments"].dump() + " segments" +
                          (journal["torn_bytes"] == 0 ? "" : ", " + journal["torn_bytes"].dump() + " bytes of an unfinished transaction at the end"));
  return text;
}

}  // namespace

void RunLs(const LsOptions& options, Invocation& invocation) {
  if (options.groups && invocation.given("state"))
    throw Error::Usage("--state has no effect with --groups", "it chooses rollouts: leave --groups out");
  const Store store(SystemFiles(), SystemClock(), options.store.store);
  if (options.groups) {
    ListGroups(store, options);
  } else {
    ListRollouts(store, options);
  }
}

void RunShow(const ShowOptions& options, Invocation& invocation) {
  for (const char* name : {"model", "color"}) {
    if (options.json && invocation.given(name)) throw Error::Usage(std::string("--") + name + " has no effect with --json", "leave one of them out");
  }
  Store store(SystemFiles(), SystemClock(), options.store.store);
  const uint64_t key = FindByPrefix(store.state(), options.uid);
  const GroupMeta& group = store.state().group(AdmissionOf(key));
  if (options.json) return PrintOut(RolloutJson(store, group, IndexOf(key)).dump() + "\n");
  const record::Rollout rollout = store.ReadRollout(key);
  PrintOut(Describe(store, rollout, group, store.state().rollout(key)));
  const auto tokenizer = text::Tokenizer::Load(options.model.empty() ? store.state().config().model : options.model);
  const bool color = options.color == "always" || (options.color == "auto" && ::isatty(STDOUT_FILENO) == 1);
  PrintOut("--- prompt\n" + Printable(tokenizer->Decode(rollout.prompt_tokens, false)) + "\n--- response\n" +
           ColoredResponse(*tokenizer, rollout, color) + "\n");
}

void RunStat(const StatOptions& options, Invocation&) {
  Json stat;
  if (options.store.IsHub()) {
    HubClient hub(options.store.store, "", options.store.peer_timeout_ms);
    hub.Hello("look");
    stat = ToJson(hub.Stat());
    hub.Bye();
  } else {
    stat = ToJson(StatMap(Store(SystemFiles(), SystemClock(), options.store.store)));
  }
  PrintOut(options.json ? stat.dump() + "\n" : StatText(stat));
}

}  // namespace april::buffer
