// rollout-gen: generate responses, finished or not.
// Reads queued and partial rollouts (--in, default -) or leases them from a buffer's hub (--from); writes finished, unfinished and progress records
// (--out, default -). Keeps no state: what is unfinished at the end is in its output.
//   partial-buffer take -s run/buffer | rollout-gen --weights run/weights --target-groups 8 | reward-score --scorer gsm8k | partial-buffer put -s
//   run/buffer
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/main.h"
#include "hub_work_source.h"
#include "record/io.h"
#include "rollout/generator.h"
#include "rollout/meter.h"
#include "rollout/prompt_line.h"
#include "rollout/scheduler.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  std::string from, worker;
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
    options.Text("drain-when", &schedule.drain_when, "PATH", "end, and hand back what is unfinished, once this path exists");
    options.Integer("progress-every", &schedule.progress_every, 0, kNoUpperLimit,
                    "decode steps between progress records of leased rollouts, so that a killed run loses at most so many tokens of each; 0 = none");
    prompt.Register(options);
  }
};

constexpr const char* kDescription =
    "Generates responses with the model in this process: all slots stay busy, groups finish member by member, each finished rollout is written at\n"
    "once. What is unfinished at the end is written as partial, and a later run goes on at its token, under newer weights if there are any.\n"
    "\n"
    "  partial-buffer take -s run/buffer | rollout-gen --weights run/weights --target-groups 8 | partial-buffer put -s run/buffer\n"
    "  rollout-gen --from zmq+ipc://run/hub --weights run/weights | reward-score --scorer gsm8k | partial-buffer put -s zmq+ipc://run/hub\n"
    "  rollout-gen --model MODEL --prompt \"What is 3 + 5?\"\n"
    "\n"
    "Seed, temperature, stop tokens and budget come with each rollout. On SIGINT, SIGTERM or SIGUSR1 everything unfinished is written; exit 75.";

struct StreamSink : rollout::Sink {
  record::RecordWriter writer;
  StreamSink(const Options& options, const record::Header& header)
      : writer(options.io.out, header, {.compress = options.io.compress, .peer_timeout_ms = options.io.peer_timeout_ms}) {}
  void Write(const record::Record& record) override { writer.Write(record); }
  void Flush() override { writer.Flush(); }
};

record::Header OutputHeader(record::Header header, std::optional<uint64_t> policy_version, const cli::Context& context) {
  header.policy_version = policy_version;
  if (context.common().provenance) header.provenance.push_back({context.tool(), cli::VersionText(), context.argv()});
  return header;
}

/// Generates from what the scheduler was given, or its source gives, and ends the stream.
void Generate(const Options& options, rollout::Engine& engine, rollout::Scheduler& scheduler, record::RecordWriter& writer, cli::Context& context) {
  rollout::Meter meter(engine, scheduler, options.schedule.target_groups);
  scheduler.set_observer([&] {
    if (meter.MetricsDue()) context.Metrics(meter.TakeMetrics());
    if (context.progress().Due()) context.progress().Update(meter.done(), meter.total(), meter.ProgressText());
  });
  rollout::ScheduleEnd end;
  try {
    end = scheduler.Run();
  } catch (const Error&) {
    context.Summary(meter.Summary());
    try {
      writer.Finish(stream::EndStatus::kError);
    } catch (const Error&) {  // the first error is the one to report
    }
    throw;
  }
  context.Metrics(meter.TakeMetrics());
  context.Summary(meter.Summary());
  const bool stopped = end == rollout::ScheduleEnd::kStopped;
  writer.Finish(stopped ? stream::EndStatus::kStopped : stream::EndStatus::kOk);
  if (stopped || scheduler.counters().defective > 0) context.ExitWith(static_cast<int>(stopped ? ErrorKind::kStopped : ErrorKind::kRejects));
}

/// Of an input whose writer failed nothing is generated and nothing lost: its records go on as they came.
void PassOn(const Options& options, const record::Header& header, const std::vector<record::Record>& records, cli::Context& context) {
  StreamSink sink(options, OutputHeader(header, header.policy_version, context));
  for (const record::Record& record : records) sink.Write(record);
  sink.writer.Finish(stream::EndStatus::kError);
  context.Summary("read " + std::to_string(records.size()) + " records, passed " + std::to_string(records.size()) + " on");
  record::RequireGoodEnd(stream::EndStatus::kError);
}

void RunPipe(const Options& options, rollout::Generator& generator, cli::Context& context) {
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  record::RecordReader reader(options.io.in, reading);
  generator.CheckTokenizer(reader.header().tokenizer, options.io.in == "-" ? "the input" : options.io.in);
  std::vector<record::Record> records;
  int64_t unfinished = 0;
  size_t longest = 1;
  while (auto record = reader.Next()) {
    if (const auto* rollout = std::get_if<record::Rollout>(&*record)) {
      unfinished += rollout->status == record::Status::kQueued || rollout->status == record::Status::kPartial;
      longest = std::max(longest, rollout->prompt_tokens.size() + static_cast<size_t>(std::max<int64_t>(0, rollout->max_tokens)));
    }
    records.push_back(std::move(*record));
  }
  if (reader.end_status() == stream::EndStatus::kError) return PassOn(options, reader.header(), records, context);
  rollout::Engine& engine = generator.Start(std::min<int64_t>(unfinished, 64), static_cast<int64_t>(longest));
  StreamSink sink(options, OutputHeader(reader.header(), engine.policy().version, context));
  rollout::Scheduler scheduler(generator.Complete(options.schedule), engine, sink, nullptr);
  for (record::Record& record : records) scheduler.Give(std::move(record));
  records.clear();
  Generate(options, engine, scheduler, sink.writer, context);
  if (reader.end_status() == stream::EndStatus::kStopped) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
}

void RunResident(const Options& options, rollout::Generator& generator, cli::Context& context) {
  HubWorkSource hub(options.from, options.worker, options.io.peer_timeout_ms);
  const buffer::RunConfig& config = hub.config();
  generator.CheckTokenizer(config.tokenizer, "run " + config.run);
  const int64_t longest = config.max_prompt_tokens > 0 ? config.max_prompt_tokens + config.max_tokens : 0;
  rollout::Engine& engine = generator.Start(config.in_flight > 0 ? config.in_flight : config.Need(), longest);
  StreamSink sink(options, OutputHeader(buffer::StreamHeader(config), engine.policy().version, context));
  rollout::Scheduler scheduler(generator.Complete(options.schedule), engine, sink, &hub);
  Generate(options, engine, scheduler, sink.writer, context);
  hub.Bye();
}

void RefuseConflicts(const Options& options, const cli::Context& context) {
  context.Exclude("prompt", {"in", "out", "from", "worker", "sources", "compress", "target-groups", "drain-when", "progress-every"},
                  "--prompt reads and writes no stream: the answer goes to stdout");
  if (context.Given("prompt") && options.prompt.prompt.empty()) throw Error::Usage("--prompt is empty", "for example --prompt \"What is 3 + 5?\"");
  context.Exclude("from", {"in", "sources"}, "rollouts come from the hub or from a stream");
  context.Exclude("from", {"target-groups"}, "the hub knows how many groups are wanted");
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
  if (options.from.empty()) return RunPipe(options, generator, context);
  RunResident(options, generator, context);
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("rollout-gen", "generate responses, finished or not", kDescription, argc, argv, Run,
                            {.threads = true, .seed = true, .provenance = true, .metrics = true, .progress = true});
}
