// The flags of every subcommand, in the order of their help.

#include "base/error.h"
#include "buffer/commands.h"

namespace april::buffer {

void StoreOption::Register(OptionsVisitor& options, bool hub_allowed, bool writes) {
  options.Section("Buffer");
  options.Text("s,store", &store, hub_allowed ? "DIR|HUB" : "DIR",
               hub_allowed ? "the buffer's directory, or the address of its hub: zmq+ipc://PATH, zmq+tcp://HOST:PORT" : "the buffer's directory");
  if (writes) {
    options.Flag("take-over", &take_over, "write a buffer on a network file system that another host wrote last; that host's writers are shut out");
  }
  if (hub_allowed)
    options.Integer("peer-timeout-ms", &peer_timeout_ms, 100, 86'400'000, "exit 6 when the hub, or a ZeroMQ peer, is silent for so long");
}

stream::ReaderOptions StoreOption::Reading(int64_t sources) const {
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = peer_timeout_ms;
  reading.sources = sources;
  return reading;
}

void SamplingOptions::Register(OptionsVisitor& options) {
  options.Section("Rollouts");
  options.Integer("group-size", &group_size, 1, 1 << 16, "rollouts of each prompt");
  options.Integer("max-tokens", &max_tokens, 1, 1 << 30, "longest response, over all resumes");
  options.Real("temperature", &temperature, 0, 100, "divides the logits; 0 takes the likeliest token, for evaluation only");
  options.Integer("top-k", &top_k, 0, 1 << 30, "sample among the k likeliest tokens; 0 = off");
  options.Real("top-p", &top_p, 0, 1, "sample among the likeliest tokens that hold this probability; 1 = off");
  options.Real("min-p", &min_p, 0, 1, "sample among tokens of at least this share of the likeliest one's probability; 0 = off");
  options.Texts("stop", &stop, "TEXT", "end a response behind this text (it stays in the response); the model's own stop tokens always end it");
}

record::Sampling SamplingOptions::Sampling() const {
  record::Sampling sampling;
  sampling.temperature = temperature;
  sampling.top_k = top_k;
  sampling.top_p = top_p;
  sampling.min_p = min_p;
  sampling.stop_strings = stop;
  return sampling;
}

void InitOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Section("Run");
  options.Text("model", &model, "PATH",
               "model directory or .gguf file: its tokenizer and chat template are those of the run; its absolute path is kept");
  options.Text("run", &run, "NAME", "name of the run, part of every rollout's uid: the same name, seed, prompts and weights give the same rollouts");
  options.Choice("purpose", &purpose, {"train", "eval"}, "what the rollouts are for; streams of another purpose are refused");
  sampling.Register(options);
  options.Integer("max-prompt-tokens", &max_prompt_tokens, 0, 1 << 30,
                  "longest prompt that add accepts; 0 = what the model's context leaves (if it is known)");
  options.Section("Steps");
  options.Integer("groups-per-step", &groups_per_step, 1, 1 << 20, "groups that a training step consumes");
  options.Integer("in-flight", &in_flight, 0, 1 << 30,
                  "rollouts under way at once. More than group-size x groups-per-step is over-issue: a step takes the groups that finish first, the\n"
                  "others go on later. 0, or not more: synchronous, every rollout of a step is issued once and awaited");
  options.Integer("min-members", &min_members, 1, 1 << 16, "scored rollouts without which a group is not trained (at most the group size)");
  options.Integer("run-ahead", &run_ahead, 0, 1 << 10,
                  "claims that may be made before the one before them is committed; 0 = the trainer and generation take turns");
  options.Integer("retain-steps", &retain_steps, 0, 1 << 20, "consumed steps whose groups are kept, to be looked at or trained again");
  options.Section("Which groups a step takes");
  options.Text("admission", &admission, "WHICH",
               "first-finished: those that are ready first (short responses are trained early). assigned:K: those that were issued first, each step\n"
               "awaits all of its groups; K further steps are under way. window:W: of the W oldest those that are ready first");
  options.Integer(
      "max-staleness", &max_staleness, -1, 1 << 20,
      "policy versions that a rollout's oldest token may be behind when it is claimed; steps wait for groups that would exceed it, and no\n"
      "more is begun than can be trained in time. -1 = any");
  options.Integer("max-resumes", &max_resumes, -1, 1 << 20,
                  "a rollout that is unfinished after so many resumes goes first, and the next step waits for it. -1 = any number");
  options.Choice("filter", &filter, {"none", "nonzero-std"},
                 "nonzero-std: groups whose rewards are all equal are dropped instead of claimed, and others made in their place (dynamic sampling)");
}

void AddOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, true);
  options.Section("Prompts");
  options.Text("prompts", &prompts, "FILE",
               "JSON lines: {\"prompt\": text or \"messages\": [{role, content}], \"label\", \"id\", \"meta\"}; other keys are not kept; - = stdin");
  options.Text("i,in", &io.in, "ENDPOINT", "without --prompts: a stream of prompt records, already tokenised");
  options.Text("model", &model, "PATH", "where the tokenizer and chat template are; default: the path that init was given");
  options.Flag("plain", &plain, "take \"prompt\" as it is; otherwise it becomes a user's message in the model's chat template");
  options.Integer("epochs", &epochs, 1, 1 << 30, "how often each prompt comes; each time is a group of its own");
  options.Integer("shuffle", &shuffle, -1, kNoUpperLimit, "seed of the order within each epoch; -1 = the file's order");
  options.Integer("max-prompt-tokens", &max_prompt_tokens, 0, 1 << 30, "longest prompt; 0 = the run's limit");
  options.Flag("skip-bad", &skip_bad, "count lines that cannot be used instead of refusing the file");
  options.Section("An evaluation stream instead of a buffer (no -s)");
  options.Choice("purpose", &purpose, {"train", "eval"}, "eval: write queued rollouts to --out; put refuses them");
  options.Text("run", &run, "NAME", "name in the rollouts' uids");
  io.RegisterOut(options);
  sampling.Register(options);
}

namespace {

void RegisterOrder(OptionsVisitor& options, std::string* order) {
  options.Choice(
      "order", order, {std::begin(kTakeOrderNames), std::end(kTakeOrderNames)},
      "which unfinished rollouts are issued first: with tokens before without (partials-first), by the age of their tokens (oldest), by length,\n"
      "as they were admitted (fifo), by the run's seed (random). New groups come last; what a step waits for by name comes first");
}

}  // namespace

void TakeOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, true);
  options.Section("What to take");
  options.Integer("rollouts", &rollouts, 0, 1 << 30, "so many rollouts, whatever the run needs; 0 = what its in-flight target has room for");
  options.Integer("groups", &groups, 0, 1 << 20, "rollouts for so many groups, whatever the run needs");
  RegisterOrder(options, &order);
  options.Text("worker", &worker, "NAME", "who takes them: what an earlier take of NAME still holds is taken back first. Use it in scripts");
  options.Section("Output");
  io.RegisterOut(options);
}

void PutOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, true);
  options.Section("Input");
  options.Text("i,in", &io.in, "ENDPOINT", "where the stream comes from: - (stdin), a file, zmq+tcp://HOST:PORT or zmq+ipc://PATH; @ in front binds");
  options.Integer("sources", &io.sources, 1, 1 << 16, "ZeroMQ: end after this many writers have ended");
  options.Integer("max-rejects", &max_rejects, 0, kNoUpperLimit, "defective records that are only counted; with more, exit 5 at the end");
  options.Text(
      "durability", &durability, "WHEN",
      "by path, when what was put is on disk: sync = before it counts, batch:MS = MS milliseconds later, os = when the system likes. Only a loss of "
      "power can tell; at exit 0 all of it is on disk");
}

void ClaimOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, true);
  options.Section("What to claim");
  options.Integer("groups", &groups, 0, 1 << 20, "groups of a step; 0 = the run's");
  options.Choice(
      "filter", &filter, {"", "none", "nonzero-std"},
      "from now on, also when no claim can be made yet, groups pass by this one instead of the run's filter: every later claim drops what does not");
  options.Text("checkpoints", &checkpoints, "DIR",
               "the trainer's checkpoints: recorded claims that the newest whole one lacks are emitted again, in order, before a new one is made; "
               "before the first checkpoint it need not exist");
  options.Flag("follow", &follow, "hub only: claim step after step, each once the one before it is committed; wait while too little is ready");
  options.Integer("steps", &steps, 0, kNoUpperLimit,
                  "with --follow: the run's number of steps; the hub drains its generators after the last claim. 0 = no end");
  options.Integer("max-wait-ms", &max_wait_ms, 100, kNoUpperLimit,
                  "with --follow: exit 7 when a step has waited for so long; what was claimed before is whole");
  options.Integer(
      "replay", &replay, -1, kNoUpperLimit,
      "for grpo-step --replay: only give the recorded claims from the newest of --checkpoints at or before this step up to it, and change "
      "nothing; -1 = off");
  options.Section("Output");
  io.RegisterOut(options);
}

void CommitOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, true);
  options.Section("Streams");
  options.Text("i,in", &io.in, "ENDPOINT", "step records: - (stdin), a file, zmq+tcp://HOST:PORT or zmq+ipc://PATH; @ in front binds");
  options.Text("o,out", &io.out, "ENDPOINT", "pass the stream on, each step record once it is committed; default: nowhere");
  options.Flag("compress", &io.compress, "write files as zstd; raw otherwise");
}

void AbandonOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, true);
  options.Argument("claim", &claim, true, "id of the newest uncommitted claim, as stat prints it");
}

void RewindOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, true);
  options.Section("Where to");
  options.Text("to", &to, "DIR", "a checkpoint's folder: its next step becomes the next one");
}

void DropOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, true);
  options.Section("What and why");
  options.Text("reason", &reason, "TEXT", "kept with the groups and counted by");
  options.Arguments("group", &groups, true, "ids of open or ready groups, as ls --groups prints them");
}

void ServeOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, true);
  options.Section("Hub");
  options.Text("bind", &bind, "ADDRESS",
               "zmq+ipc://PATH, or zmq+tcp://127.0.0.1:PORT; requests are not authenticated, so other addresses than this machine's own are refused");
  options.Integer("steps", &steps, 0, kNoUpperLimit,
                  "the run's number of steps: drain the generators after the last claim, end after its commit; 0 = as claim --steps says");
  RegisterOrder(options, &order);
  options.Integer("term-ms", &term_ms, 100, 86'400'000, "how long a generator may be silent before its rollouts return to the queue");
  options.Integer("grace-ms", &grace_ms, 0, 86'400'000,
                  "after a first signal: how long to wait for clients to finish; for a step in training as long as it takes");
  options.Text(
      "durability", &durability, "WHEN",
      "when leases and what was put are on disk: sync = before they are answered (one sync for all that wait), batch:MS = MS milliseconds later, "
      "os = when the system likes. Only a loss of power can tell; claims and commits always are");
}

}  // namespace april::buffer
