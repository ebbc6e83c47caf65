// rollout-gen: generate responses, finished or not.
// Reads queued and partial rollouts (--in, default -) or leases them from a buffer's hub (--from); writes finished, unfinished and progress records
// (--out, default -). Keeps no state: what is unfinished at the end is in its output.
//   partial-buffer take -s run/buffer | rollout-gen --weights run/weights --target-groups 8 | reward-score --scorer gsm8k --model MODEL |
//   partial-buffer put -s run/buffer
#include <cstdint>
#include <string>

#include "base/error.h"
#include "cli/main.h"
#include "hub_work_source.h"
#include "rollout/command_generate.h"
#include "rollout/command_profile.h"
#include "rollout/prompt_line.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  std::string from, worker, profile;
  rollout::GeneratorOptions generator;
  rollout::ScheduleOptions schedule;
  rollout::PromptLineOptions prompt;

  void Register(OptionsVisitor& options) {
    options.Section("Streams");
    io.RegisterIn(options);
    io.RegisterOut(options);
    options.Text("from", &from, "ENDPOINT",
                 "stay resident: lease rollouts from this hub (zmq+ipc://PATH, zmq+tcp://HOST:PORT) instead of reading --in");
    options.Text("worker", &worker, "NAME", "name at the hub that stays the same over restarts: what an earlier run of it held comes back at once");
    generator.Register(options);
    options.Section("When to end");
    options.Integer("target-groups", &schedule.target_groups, 0, kNoUpperLimit, "end once so many groups are whole; 0 = once everything is finished");
    options.Integer("round-tokens", &schedule.round_tokens, 0, kNoUpperLimit,
                    "end once so many response tokens were made in this round, whatever is finished by then; 0 = no limit");
    options.Text("drain-when", &schedule.drain_when, "PATH", "end, and hand back what is unfinished, once this path exists");
    options.Integer("progress-every", &schedule.progress_every, 0, kNoUpperLimit,
                    "decode steps between progress records of leased rollouts, so that a killed run loses at most so many tokens of each; 0 = none");
    prompt.Register(options);
    options.Section("Simulation");
    options.Text(
        "profile", &profile, "OUT",
        "measure this machine with the model, write a simulation profile for --engine sim:OUT, and end; lengths are those of --in, if given");
  }
};

constexpr const char* kDescription =
    "Generates responses with the model in this process: all slots stay busy, groups finish member by member, each finished rollout is written at\n"
    "once. What is unfinished at the end is written as partial, and a later run goes on at its token, under newer weights if there are any.\n"
    "\n"
    "  partial-buffer take -s run/buffer | rollout-gen --weights run/weights --target-groups 8 | partial-buffer put -s run/buffer\n"
    "  rollout-gen --from zmq+ipc://run/hub --weights run/weights | reward-score --scorer gsm8k --model MODEL | partial-buffer put -s "
    "zmq+ipc://run/hub\n"
    "  rollout-gen --model MODEL --prompt \"What is 3 + 5?\"\n"
    "  partial-buffer take -s run/buffer | rollout-gen --engine sim:h100-qwen3-8b --target-groups 8 --metrics times.jsonl | …    # as on a GPU\n"
    "\n"
    "Seed, temperature, stop tokens and budget come with each rollout. On SIGINT, SIGTERM or SIGUSR1 everything unfinished is written; exit 75.";

/// Stays with the hub until it wants no more.
void RunResident(const Options& options, rollout::Generator& generator, Invocation& invocation) {
  HubWorkSource hub(options.from, options.worker, options.io.peer_timeout_ms);
  const buffer::RunConfig& config = hub.config();
  generator.CheckTokenizer(config.tokenizer, "run " + config.run);
  const int64_t longest = config.max_prompt_tokens > 0 ? config.max_prompt_tokens + config.max_tokens : 0;
  rollout::Engine& engine = generator.Start(config.in_flight > 0 ? config.in_flight : config.Need(), longest);
  rollout::GenerateFromSource(generator.Follow(hub), buffer::StreamHeader(config), options.io, generator.Complete(options.schedule), engine,
                              invocation);
  hub.Bye();
}

void RefuseConflicts(const Options& options, const cli::Context& context) {
  context.Exclude("prompt", {"in", "out", "from", "worker", "sources", "compress", "target-groups", "round-tokens", "drain-when", "progress-every"},
                  "--prompt reads and writes no stream: the answer goes to stdout");
  if (context.Given("prompt") && options.prompt.prompt.empty()) throw Error::Usage("--prompt is empty", "for example --prompt \"What is 3 + 5?\"");
  context.Exclude("profile", {"prompt", "out", "from", "worker", "compress", "target-groups", "round-tokens", "drain-when", "progress-every"},
                  "--profile generates for its measurement alone");
  const bool simulated = options.generator.engine != "local";
  if (simulated && context.Given("prompt")) throw Error::Usage("a simulation answers no --prompt: it has no model", "leave --engine out");
  if (simulated && context.Given("profile")) throw Error::Usage("--profile measures a model, not a simulation", "leave --engine out");
  if (context.Given("profile") && options.profile.empty()) throw Error::Usage("--profile is empty", "for example --profile my-machine.json");
  context.Exclude("from", {"in", "sources"}, "rollouts come from the hub or from a stream");
  context.Exclude("from", {"target-groups", "round-tokens"}, "the hub knows how much is wanted");
  if (context.Given("worker") && !context.Given("from")) throw Error::Usage("--worker is for --from", "partial-buffer take has a --worker too");
  for (const char* option : {"max-tokens", "temperature", "top-p"}) {
    if (context.Given(option) && !context.Given("prompt")) {
      throw Error::Usage(std::string("--") + option + " is for --prompt",
                         "a rollout brings its own, which the run was begun with: partial-buffer init");
    }
  }
}

void Run(const Options& options, cli::Context& context) {
  RefuseConflicts(options, context);
  rollout::Generator generator(options.generator, context.common().threads, options.io.peer_timeout_ms);
  if (context.Given("prompt")) return rollout::AnswerPrompt(options.prompt, generator, static_cast<uint64_t>(context.common().seed));
  cli::Invoke(context, [&](Invocation& invocation) {
    if (!options.profile.empty()) return rollout::WriteProfile(options.profile, options.io, generator, invocation);
    if (options.from.empty()) return rollout::GenerateFromStream(options.io, options.schedule, generator, invocation);
    RunResident(options, generator, invocation);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("rollout-gen", "generate responses, finished or not", kDescription, argc, argv, Run,
                            {.threads = true, .seed = true, .provenance = true, .metrics = true, .progress = true});
}
