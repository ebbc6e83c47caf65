// april-simulate: a whole training run on a virtual clock.
// Joins what only programs may join: the buffer's policies and the generator's scheduler, with a simulated engine and a trainer that only takes time.
//   april-simulate --profile h100-qwen3-8b --schedule top-up --over-issue 2
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "base/printing.h"
#include "cli/main.h"
#include "simulated_run.h"

using namespace april;

namespace {

struct Options {
  std::string profile = "h100-qwen3-8b", lengths, schedule = "top-up", admission = "first-finished", kv = "recompute", label;
  SimulatedRunOptions run;
  double train_token_us = 0, length_scale = 1;
  int64_t engines = 0;

  void Register(OptionsVisitor& options) {
    options.Section("Machine");
    options.Text("profile", &profile, "PROFILE", "times, memory and lengths: a shipped profile's name or a path (formats/profiles.md)");
    options.Integer("engines", &engines, 0, 1 << 20, "engines side by side; 0 = as the profile has it");
    options.Text(
        "lengths", &lengths, "DISTRIBUTION",
        "in place of the profile's: lognormal:MEDIAN,SIGMA, heavy-tail:MIN,ALPHA, list:A,B,… or profile:PROFILE (another's); group share stays");
    options.Real("length-scale", &length_scale, 1e-3, 1e3, "times which responses are as long");
    options.Real("train-token-us", &train_token_us, 0, 1e6, "microseconds that the trainer takes for a response token; generation pauses meanwhile");
    options.Section("Run");
    options.Choice("schedule", &schedule, {"sync", "wave", "top-up"},
                   "sync: a step's rollouts, all awaited; wave: the paper's, over-issued at once for each step; top-up: slots refilled one by one");
    options.Text("admission", &admission, "WHICH", "first-finished, assigned:K or window:W, as partial-buffer init has it");
    options.Real("over-issue", &run.over_issue, 1, 1000, "rollouts under way (groups, for wave), as a multiple of a step's need");
    options.Integer("slots", &run.slots, 0, 1 << 20, "rollouts decoded at once; 0 = as many as are under way");
    options.Integer("groups", &run.groups, 1, 1 << 20, "prompts a step");
    options.Integer("group-size", &run.group_size, 1, 65535, "rollouts a prompt");
    options.Integer("prompt-tokens", &run.prompt_tokens, 1, 1 << 20, "length of each prompt");
    options.Integer("max-tokens", &run.max_tokens, 1, 1 << 24, "longest response");
    options.Integer("steps", &run.steps, 1, 1 << 20, "training steps");
    options.Integer("warm-up", &run.warm_up, 0, 1 << 20, "first steps, which the figures leave out");
    options.Choice("kv", &kv, {"recompute", "keep"},
                   "at new weights, what becomes of the keys and values of unfinished rollouts that kept their slot");
    options.Text("label", &label, "TEXT", "carried into the output, to tell runs apart");
  }
};

constexpr const char* kDescription =
    "Simulates training steps: the buffer gives out, admits and claims rollouts, the generator's scheduler decodes them, as they do for a model; "
    "only\n"
    "times, tokens and lengths are made up by a profile. Prints one JSON line with the figures of the run; --metrics has a line a step.\n"
    "All times are virtual.\n"
    "\n"
    "  april-simulate --profile h100-qwen3-8b --schedule sync\n"
    "  april-simulate --profile h100-qwen3-8b --schedule top-up --over-issue 2 --admission window:96";

buffer::Admission AdmissionOf(const Options& options) {
  const auto admission = buffer::ParseAdmission(options.admission);
  if (!admission) throw Error::Usage("--admission " + options.admission + ": no such admission", "first-finished, assigned:K or window:W");
  if (admission->kind != buffer::Admission::Kind::kFirstFinished && options.schedule != "top-up")
    throw Error::Usage("--admission " + options.admission + " is for --schedule top-up");
  return *admission;
}

rollout::LengthDistribution LengthsNamed(const std::string& text) {
  constexpr std::string_view kProfile = "profile:";
  return text.starts_with(kProfile) ? rollout::LoadSimProfile(text.substr(kProfile.size())).lengths : rollout::ParseLengths(text);
}

/// Removed when the run ends, however it ends.
struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / "april-simulate-XXXXXX").string();
  Scratch() {
    if (::mkdtemp(path.data()) == nullptr) throw Error::System("cannot make a directory", path, errno);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

void Run(const Options& options, cli::Context& context) {
  SimulatedRunOptions run = options.run;
  run.profile = rollout::LoadSimProfile(options.profile);
  if (options.engines > 0) run.profile.engines = options.engines;
  if (!options.lengths.empty()) {
    const double group_share = run.profile.lengths.group_share;
    run.profile.lengths = LengthsNamed(options.lengths);
    run.profile.lengths.group_share = group_share;
  }
  run.profile.lengths.Scale(options.length_scale);
  run.schedule = options.schedule == "sync" ? Schedule::kSync : options.schedule == "wave" ? Schedule::kWave : Schedule::kTopUp;
  run.admission = AdmissionOf(options);
  run.train_token_ms = options.train_token_us * 1e-3;
  run.keep_kv = options.kv == "keep";
  run.seed = static_cast<uint64_t>(context.common().seed);
  const Scratch scratch;
  run.scratch = scratch.path;

  Json line;
  line["label"] = options.label;
  line["profile"] = run.profile.name;
  line["schedule"] = options.schedule;
  line["admission"] = options.admission;
  line["over_issue"] = options.schedule == "sync" ? 1.0 : run.over_issue;
  line["kv"] = options.kv;
  line["groups"] = run.groups;
  line["group_size"] = run.group_size;
  line["engines"] = run.profile.engines;
  line.update(Simulate(run, [&](const Json& step) { context.Metrics(step); }));
  PrintOut(line.dump() + "\n");
  context.Summary("simulated " + std::to_string(run.steps) + " steps, " + std::to_string(run.steps - run.warm_up) + " of them counted; " +
                  line["trained_tokens_per_s"].dump() + " trained tokens/s in simulated time, " + line["idle_share"].dump() + " of slot-time idle");
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("april-simulate", "simulate training runs on a virtual clock", kDescription, argc, argv, Run,
                            {.seed = true, .metrics = true});
}
