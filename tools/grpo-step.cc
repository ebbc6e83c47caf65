// grpo-step: train on claims, publish every version, write checkpoints.
// Reads claims (--in, default -); writes one step record a claim (--out, default -). Keeps checkpoints (--from) and published weights (--publish).
//   partial-buffer claim -s run/buffer --groups 8 | grpo-step --from run/checkpoints --publish run/weights | partial-buffer commit -s run/buffer
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/printing.h"
#include "base/signals.h"
#include "cli/main.h"
#include "grpo/claim.h"
#include "grpo/follower.h"
#include "grpo/preset.h"
#include "grpo/replay.h"
#include "grpo/session.h"
#include "grpo/step_report.h"
#include "ranks/ranks.h"
#include "record/io.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  grpo::SessionOptions session;
  ranks::RankOptions ranks;
  void Register(OptionsVisitor& options) {
    options.Section("Streams");
    io.RegisterIn(options);
    io.RegisterOut(options);
    session.Register(options);
    ranks.Register(options);
  }
};

constexpr const char* kDescription =
    "Reads claims from partial-buffer claim and makes one policy update of each: group-relative advantages, the clipped loss, AdamW on f32 weights.\n"
    "Publishes the new weights after every step and emits a step record for partial-buffer commit. Writes a full checkpoint every "
    "--checkpoint-every\n"
    "steps and at the end; the record of the step before it then comes once more, with the checkpoint's name. Goes on from the newest whole "
    "checkpoint;\n"
    "claims that it lacks come again and give the same bits.\n"
    "\n"
    "  partial-buffer claim -s run/buffer --groups 8 --checkpoints run/checkpoints |\n"
    "    grpo-step --model MODEL --from run/checkpoints --publish run/weights --lr 1e-5 |\n"
    "    partial-buffer commit -s run/buffer\n"
    "\n"
    "On SIGINT or SIGTERM the step at hand is finished and saved; exit 75.\n"
    "\n"
    "--replay computes a recorded step again, with the options that it was trained with, prints whether every bit is as recorded (exit 3: it is\n"
    "not, and which tensor differs first) and changes nothing:\n"
    "\n"
    "  partial-buffer claim -s run/buffer --replay 17 --checkpoints run/checkpoints |\n"
    "    grpo-step --replay 17 --from run/checkpoints --publish run/weights --lr 1e-5";

record::Header OutputHeader(const record::Header& input, const cli::Context& context) {
  record::Header header = input;
  if (context.common().provenance) header.provenance.push_back({context.tool(), cli::VersionText(), context.argv()});
  return header;
}

void Give(const record::Step& step, record::RecordWriter& writer) {
  writer.Write(step);
  writer.Flush();
}

/// For --metrics and for a person.
void Tell(const grpo::StepReport& report, cli::Context& context) {
  const std::string step = "step " + std::to_string(report.step.step);
  if (report.repeated) return log::Info(step + " was trained before: its record is given again");
  context.Metrics(report.metrics);
  log::Detail(step + ": " + report.line);
  context.progress().Update(static_cast<double>(report.step.step + 1), 0, report.line);
  if (!report.excluded.empty()) log::Info(step + ": rollouts left out of their groups: " + grpo::ExcludedText(report.excluded));
  if (!report.step.advanced) log::Info(step + ": no gradient in the whole claim; the weights and the optimiser stay as they are");
}

/// Trains claims until the stream ends or a stop was asked for between two of them. Returns how its own stream is to end.
stream::EndStatus TrainAll(grpo::Session& session, grpo::ClaimReader& reader, record::RecordWriter& writer, cli::Context& context) {
  grpo::StepTally tally;
  context.Summary(tally.Text());
  while (auto claim = reader.Next()) {
    if (StopRequested()) return stream::EndStatus::kStopped;  // this claim stays in the buffer, and comes again
    grpo::StepReport report = session.Train(*claim);
    tally.Add(report, claim->NumRollouts());
    context.Summary(tally.Text());
    try {
      Give(report.step, writer);
      if (session.Settle(&report)) Give(report.step, writer);
    } catch (const Error&) {
      try {
        Tell(report, context);  // it was trained and published, whatever became of its record and its checkpoint
      } catch (const Error&) {  // the first failure is the one to report
      }
      throw;
    }
    Tell(report, context);
  }
  return reader.end_status();
}

/// The final checkpoint, named in the last step's record, which is given again.
void Save(grpo::Session& session, record::RecordWriter& writer) {
  if (const auto step = session.Finish()) Give(*step, writer);
}

grpo::SessionOptions SessionOptions(const Options& options, const cli::Context& context) {
  grpo::SessionOptions session = options.session;
  session.seed = static_cast<uint64_t>(context.common().seed);
  return session;
}

stream::ReaderOptions Reading(const Options& options) {
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  return reading;
}

/// What a rank behind the first does: it opens no stream.
void Follow(const Options& options, cli::Context& context, ranks::Ranks& ranks) {
  grpo::Follower follower(options.session, static_cast<int>(context.common().threads), ranks);
  do {
    context.Summary(follower.Text());
  } while (follower.Next());
  if (follower.stopped()) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
}

void Replay(const Options& options, cli::Context& context, std::shared_ptr<ranks::Ranks> ranks) {
  context.Exclude("replay", {"out", "checkpoint-every", "keep", "keep-versions"}, "a replay writes no stream, checkpoint or version");
  grpo::Session session(SessionOptions(options, context), static_cast<int>(context.common().threads), std::move(ranks));
  log::Info("replays step " + std::to_string(options.session.replay) + ", beginning at step " + std::to_string(session.step()) + " from " +
            session.origin());
  grpo::ClaimReader reader(options.io.in, Reading(options));
  session.CheckHeader(reader.header());
  const std::string verdict = grpo::ReplayStep(session, reader, options.session.replay, [&](const grpo::StepReport& report) {
    context.Metrics(report.metrics);
    log::Detail("step " + std::to_string(report.step.step) + ": " + report.line);
  });
  session.Dismiss(false);
  PrintOut(verdict + "\n");
}

/// For --print-config, by which a pipeline asks before it begins: refuses what a run would refuse. A printed configuration has a preset's options
/// instead of its name: it does not tell which of the others were given.
void Resolve(Options& options, const cli::Given& given) {
  grpo::ApplyPreset(given, &options.session.method);
  options.session.method.preset = "none";
  grpo::CheckedMethod(options.session);
}

void Run(const Options& given, cli::Context& context) {
  Options options = given;
  const std::string set = grpo::ApplyPreset([&](const std::string& name) { return context.Given(name); }, &options.session.method);
  if (!set.empty()) log::Info("--preset " + options.session.method.preset + " sets " + set);
  const std::shared_ptr<ranks::Ranks> ranks = grpo::JoinRanks(options.ranks, options.session);
  if (!ranks->IsFirst()) return Follow(options, context, *ranks);
  if (options.session.replay >= 0) return Replay(options, context, ranks);
  grpo::Session session(SessionOptions(options, context), static_cast<int>(context.common().threads), ranks);
  log::Info("starts at step " + std::to_string(session.step()) + " from " + session.origin());
  stream::ReaderOptions reading = Reading(options);
  reading.for_stdout = options.io.out == "-";  // without a committer the next claim never comes
  stream::WriterOptions writing;
  writing.compress = options.io.compress;
  writing.peer_timeout_ms = options.io.peer_timeout_ms;
  grpo::ClaimReader reader(options.io.in, reading);
  session.CheckHeader(reader.header());
  record::RecordWriter writer(options.io.out, OutputHeader(reader.header(), context), writing);

  stream::EndStatus status = stream::EndStatus::kOk;
  try {
    status = TrainAll(session, reader, writer, context);
  } catch (const Error&) {
    try {
      Save(session, writer);  // the steps before the failure are good: a checkpoint spares computing them again
    } catch (const Error&) {  // the first failure is the one to report
    }
    throw;
  }
  Save(session, writer);
  writer.Finish(status);
  session.Dismiss(status == stream::EndStatus::kStopped);
  record::RequireGoodEnd(status);
  if (status == stream::EndStatus::kStopped) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("grpo-step", "train on claims, publish every version, write checkpoints", kDescription, argc, argv, Run,
                            {.threads = true, .seed = true, .provenance = true, .metrics = true, .progress = true}, Resolve);
}
