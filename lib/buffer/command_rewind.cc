// abandon, rewind, drop: what is taken back, or left out for good.
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "buffer/claiming.h"
#include "buffer/commands.h"
#include "buffer/dropping.h"
#include "buffer/hub_client.h"
#include "buffer/printed_lines.h"
#include "buffer/rewinding.h"
#include "buffer/store.h"

namespace april::buffer {
namespace {

uint64_t ParseGroupId(const std::string& text) {
  constexpr size_t kDigits = 16;
  const bool hex = text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex) throw Error::Usage("\"" + text + "\" is no group: expected 16 hexadecimal digits", "partial-buffer ls --groups prints them");
  return ParseHexU64(text);
}

}  // namespace

void RunAbandon(const AbandonOptions& options, Invocation& invocation) {
  if (options.store.IsHub()) {
    HubClient hub(options.store.store, "", options.store.peer_timeout_ms);
    hub.Hello("commit");
    hub.Abandon(options.claim);
    hub.Bye();
  } else {
    Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
    store.Transact([&](Batch& batch) { AbandonClaim(store.state(), batch, options.claim, "abandoned by hand"); });
  }
  invocation.summary = "abandoned claim " + options.claim + ": its groups are ready again";
}

void RunRewind(const RewindOptions& options, Invocation& invocation) {
  if (options.to.empty()) throw Error::Usage("--to is missing", "it names a checkpoint's folder, for example --to run/checkpoints/step-00000008");
  Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
  const RewindTarget target = ReadRewindTarget(SystemFiles(), options.to, store.state().config().run);
  RewindCounts counts;
  store.Transact([&](Batch& batch) { counts = Rewind(store.state(), batch, target); });
  // Behind the journal: should this end in between, claim refuses the newer checkpoints, and the same command goes on here.
  const std::vector<std::string> aside = SetNewerAside(SystemFiles(), options.to, target.step);
  for (const std::string& name : aside) log::Info("checkpoint " + name + " is newer and set aside: its manifest is manifest.json.rewound now");
  if (counts.steps > 0) {
    const std::string version = std::to_string(target.version);
    log::Info(
        "weights of later versions that are published still are what generators read, and what they make of them does not count, until: "
        "weight-sync publish --supersede --model " +
        options.to + " --to WEIGHTS --version " + version);
  }
  invocation.Report("went back to step " + std::to_string(target.step) + ", policy version " + std::to_string(target.version) + ": undid " +
                        Count(counts.steps, "step") + ", " + Count(counts.groups, "group") + " with " + Count(counts.rollouts, "rollout") +
                        (counts.groups == 1 ? " is" : " are") + " ready again; set " + Count(static_cast<int64_t>(aside.size()), "checkpoint") +
                        " aside",
                    {{"step", target.step},
                     {"policy_version", target.version},
                     {"undone_steps", counts.steps},
                     {"groups", counts.groups},
                     {"rollouts", counts.rollouts},
                     {"checkpoints_aside", aside.size()}});
}

void RunDrop(const DropOptions& options, Invocation& invocation) {
  if (options.reason.empty()) throw Error::Usage("--reason is missing", "it is kept with the groups and counted by: --reason 'wrong label'");
  std::vector<uint64_t> groups;
  for (const std::string& text : options.groups) groups.push_back(ParseGroupId(text));
  int64_t dropped = 0;
  if (options.store.IsHub()) {
    HubClient hub(options.store.store, "", options.store.peer_timeout_ms);
    hub.Hello("look");
    dropped = hub.Drop(groups, options.reason);
    hub.Bye();
  } else {
    Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
    store.Transact([&](Batch& batch) { dropped = DropGroups(store.state(), batch, groups, options.reason); });
  }
  const int64_t repeated = static_cast<int64_t>(groups.size()) - dropped;
  invocation.Report("dropped " + Count(dropped, "group") + "; " + std::to_string(repeated) + (repeated == 1 ? " was" : " were") + " dropped before",
                    {{"dropped", dropped}, {"repeated", repeated}});
}

}  // namespace april::buffer
