// stat: the numbers of a buffer.
#include <algorithm>
#include <cinttypes>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/printing.h"
#include "buffer/admission.h"
#include "buffer/hub_client.h"
#include "buffer/look_commands.h"
#include "buffer/printed_lines.h"
#include "buffer/prompts.h"
#include "buffer/settings.h"
#include "buffer/statistics.h"

namespace april::buffer {
namespace {

std::string CountLine(const Json& counts) {
  std::string text;
  for (const auto& [name, count] : counts.items()) {
    if (count == 0) continue;
    text += (text.empty() ? "" : ", ") + name + " " + count.dump();
  }
  return text.empty() ? "none" : text;
}

/// Below 0 stands what a rewind left: its tokens are newer than the version that the run went back to.
std::string StalenessLine(const Json& counts) {
  int64_t ahead = 0;
  Json behind = Json::object();
  for (const auto& [versions, count] : counts.items()) {
    if (versions.starts_with('-')) {
      ahead += count.get<int64_t>();
    } else {
      behind[versions] = count;
    }
  }
  return CountLine(behind) + "  (versions behind, by the oldest token → rollouts)" +
         (ahead > 0 ? "; " + Count(ahead, "rollout") + " newer than the version that a rewind went back to" : "");
}

/// Steps are numbered from 0, so that the next one's number is how many there were.
std::string StepsLine(const Json& stat) {
  const auto claimed = stat["next_step"].get<int64_t>(), committed = stat["first_uncommitted_step"].get<int64_t>();
  return Count(committed, "step") + " committed, " + stat["first_unconsumed_step"].dump() + " of them in a checkpoint" +
         (claimed > committed ? ", " + std::to_string(claimed - committed) + " claimed and not committed" : "") + "; the next claim is step " +
         std::to_string(claimed) + "; policy version " +
         (stat["policy_version"].is_null() ? "not known before a commit" : stat["policy_version"].dump());
}

std::string LengthLine(const Json& lengths) {
  const auto rollouts = lengths["rollouts"].get<int64_t>();
  if (rollouts == 0) return "none";
  return Count(rollouts, "rollout") +
         Format(", mean %.1f tokens, longest %" PRId64, lengths["mean_tokens"].get<double>(), lengths["longest_tokens"].get<int64_t>());
}

std::string Bar(double share, double largest) {
  constexpr double kWidth = 24;
  const auto length = static_cast<size_t>(share / largest * kWidth + 0.5);
  return std::string(length, '#') + std::string(static_cast<size_t>(kWidth) - length, ' ');
}

/// Lengths of what was sampled beside those of what was trained, each as shares of its own: where the short ones come first, the bars on the right
/// stand higher up.
std::string Histogram(const Json& sampled, const Json& trained) {
  const size_t classes = std::max(sampled["classes"].size(), trained["classes"].size());
  const auto share = [](const Json& lengths, size_t i) {
    const auto all = lengths["rollouts"].get<double>();
    return all == 0 || i >= lengths["classes"].size() ? 0 : lengths["classes"][i]["rollouts"].get<double>() / all;
  };
  double largest = 0;
  for (size_t i = 0; i < classes; ++i) largest = std::max({largest, share(sampled, i), share(trained, i)});
  if (largest == 0) return "";
  std::string text = Format("%-10s %10s   %-31s %s\n", "lengths", "tokens", "sampled", "trained");
  for (size_t i = 0; i < classes; ++i) {
    const double a = share(sampled, i), b = share(trained, i);
    if (a == 0 && b == 0) continue;
    const uint64_t to = (uint64_t{1} << i) - 1, from = i == 0 ? 0 : uint64_t{1} << (i - 1);
    const std::string range = from == to ? std::to_string(to) : std::to_string(from) + "-" + std::to_string(to);
    text += Format("%-10s %10s   %s %4.0f%%  %s %4.0f%%\n", "", range.c_str(), Bar(a, largest).c_str(), 100 * a, Bar(b, largest).c_str(), 100 * b);
  }
  return text;
}

std::string WasteText(const Json& waste) {
  const auto part = [&](const char* key) { return waste[key]["rollouts"].dump() + " (" + waste[key]["tokens"].dump() + " tokens)"; };
  std::string reasons;
  for (const auto& [why, account] : waste["never_trained_for"].items()) {
    if (why != "failed" && account["rollouts"] != 0) reasons += (reasons.empty() ? ": " : ", ") + why + " " + account["rollouts"].dump();
  }
  return "late records of old leases " + part("superseded") + ", dropped " + part("dropped") + reasons + ", failed " + part("failed") + "; " +
         Format("%.1f%% of all journaled tokens", 100 * waste["share_of_tokens"].get<double>());
}

std::string StatText(const Json& stat) {
  std::string text = Line("run", stat["run"].get<std::string>() + (stat["synchronous"].get<bool>() ? ", synchronous" : ", over-issue"));
  if (stat.contains("config")) {  // a hub of an earlier build has none
    const char* name = "settings";
    for (const std::string& line : SettingsLines(stat["config"])) text += Line(std::exchange(name, ""), line);
    if (stat["filter"] != stat["config"].value("filter", "none"))
      text += Line("filter", stat["filter"].get<std::string>() + " since a claim --filter; init said " + stat["config"].value("filter", "none"));
  }
  text += Line("steps", StepsLine(stat));
  text += Line("groups", CountLine(stat["groups"]));
  text += Line("rollouts", CountLine(stat["rollouts"]));
  text += Line("tokens", CountLine(stat["tokens"]));
  if (const auto waiting = stat.value("awaiting_score", int64_t{0}); waiting > 0)
    text += Line("unscored", Count(waiting, "complete rollout") + (waiting == 1 ? " waits" : " wait") + " for a score: " + kScoreCommand);
  text += Line("staleness", StalenessLine(stat["staleness_versions"]));
  text += Line("resumed", CountLine(stat["resumes"]) + "  (times taken up again → rollouts not trained yet; new weights alone do not count), " +
                              stat["finished_resumes"].dump() + " times in all finished rollouts");
  text += Line("age", CountLine(stat["ages"]) + "  (since it was opened → groups not trained yet)");
  text += Line("sampled", LengthLine(stat["sampled"]));
  text += Line("trained", LengthLine(stat["trained_lengths"]));
  text += Histogram(stat["sampled"], stat["trained_lengths"]);
  const Json& trained = stat["trained"];
  text += Line("reward", trained["mean_reward"].is_null() ? "nothing trained yet"
                                                          : Format("mean %.4f over %" PRId64 " trained rollouts",
                                                                   trained["mean_reward"].get<double>(), trained["rollouts"].get<int64_t>()));
  text += Line("waste", WasteText(stat["waste"]));
  for (const Json& claim : stat["uncommitted"]) {
    text += Line("claim", claim["claim"].get<std::string>() + " of step " + claim["step"].dump() + ": " +
                              Count(claim["groups"].get<int64_t>(), "group") + ", not committed");
  }
  for (const Json& lease : stat["leases"]) {
    text += Line("lease", lease["worker"].get<std::string>() + " holds " + Count(lease["rollouts"].get<int64_t>(), "rollout") + ", for " +
                              HumanSeconds(lease["age_s"].get<double>()));
  }
  const Json& journal = stat["journal"];
  text +=
      Line("journal", HumanBytes(journal["bytes"].get<uint64_t>()) + " in " + Count(journal["segments"].get<int64_t>(), "segment") +
                          (journal["torn_bytes"] == 0 ? "" : ", " + journal["torn_bytes"].dump() + " bytes of an unfinished transaction at the end"));
  return text;
}

}  // namespace

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
