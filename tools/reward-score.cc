// reward-score: attach rewards to finished rollouts.
// Reads rollouts (--in, default -); writes the same records, complete ones with their reward (--out, default -). Keeps no state.
//   rollout-gen ... | reward-score --scorer gsm8k --model MODEL | partial-buffer put -s run/buffer
#include <algorithm>
#include <cstring>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/printing.h"
#include "cli/main.h"
#include "record/io.h"
#include "reward/overlong.h"
#include "reward/scorer.h"
#include "reward/tally.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  reward::ScorerOptions scorer;
  std::string model;
  bool rescore = false;
  bool list = false;
  int64_t max_errors = 0;
  void Register(OptionsVisitor& options) {
    options.Section("Streams");
    io.RegisterIn(options);
    io.RegisterOut(options);
    options.Section("Scoring");
    scorer.Register(options);
    options.Text("model", &model, "MODEL", "whose tokenizer made the rollouts: a Hugging Face directory, a tokenizer.json or a .gguf file");
    options.Flag("rescore", &rescore, "also score rollouts that have a reward; without it they pass as they are");
    options.Integer("max-errors", &max_errors, 0, kNoUpperLimit,
                    "exit 5 when more rollouts than this could not be judged; all records pass in any case");
    options.Flag("list", &list, "print the scorers and end");
  }
};

constexpr const char* kDescription =
    "Judges finished rollouts as they come and passes everything on at once: unfinished rollouts, progress and unknown records untouched.\n"
    "\n"
    "  rollout-gen --from zmq+ipc://run/hub | reward-score --scorer gsm8k --model MODEL | partial-buffer put -s zmq+ipc://run/hub\n"
    "\n"
    "A rollout that cannot be judged (no label, deadline, a token that the tokenizer lacks) gets the outcome error or timeout with its reason,\n"
    "never a reward of 0; --max-errors decides the exit status.";

constexpr int64_t kMetricsEvery = 64;  // rollouts

std::shared_ptr<const text::Tokenizer> LoadTokenizer(const Options& options, const record::Header& header) {
  auto tokenizer = text::Tokenizer::Load(options.model);
  if (!header.tokenizer) log::Warn("the stream does not name its tokenizer; whether " + options.model + " has the right one cannot be checked");
  if (header.tokenizer && *header.tokenizer != tokenizer->digest()) {
    throw Error::Incompatible(
        options.model + " has the tokenizer " + HexU64(tokenizer->digest()) + ", the stream was made with " + HexU64(*header.tokenizer),
        "give --model the model that the run was begun with");
  }
  return tokenizer;
}

bool IsToScore(const record::Rollout& rollout, bool rescore) { return rollout.status == record::Status::kComplete && (rescore || !rollout.reward); }

void ScoreAll(const Options& options, cli::Context& context, reward::Tally* tally) {
  const auto scorer = reward::MakeScorer(options.scorer);
  const auto overlong = reward::ParseOverlong(options.scorer.overlong);
  record::RecordReader reader(options.io.in, {.limits = {}, .peer_timeout_ms = options.io.peer_timeout_ms, .sources = options.io.sources});
  const auto tokenizer = LoadTokenizer(options, reader.header());
  record::Header header = reader.header();
  if (context.common().provenance) header.provenance.push_back({context.tool(), cli::VersionText(), context.argv()});
  record::RecordWriter writer(options.io.out, header, {.compress = options.io.compress, .peer_timeout_ms = options.io.peer_timeout_ms});
  context.Summary(tally->Text());  // not before there is anything to count

  while (const auto bytes = reader.raw().Next()) {
    record::Record record;
    try {
      record = record::DecodeRecord(*bytes);
    } catch (const Error& error) {
      throw error.Within(reader.raw().Position());
    }
    auto* rollout = std::get_if<record::Rollout>(&record);
    if (rollout == nullptr || !IsToScore(*rollout, options.rescore)) {
      writer.WriteEncoded(*bytes);
      tally->AddPassed();
    } else {
      rollout->reward = reward::ScoreRollout(*rollout, *scorer, *tokenizer);
      if (overlong) reward::AddOverlong(*overlong, rollout);
      const record::Reward& reward = *rollout->reward;
      if (reward.status != "ok")
        log::WarnOnce(reward.detail, "rollout " + HexU64(rollout->uid) + " of prompt " + rollout->prompt_id + ": " + reward.detail);
      writer.Write(record);
      tally->AddJudged(*rollout);
      if (tally->window_judged() >= kMetricsEvery) context.Metrics(tally->TakeWindow());
    }
    writer.Flush();  // a resident pipeline waits for this one
    context.Summary(tally->Text());
    if (context.progress().Due()) context.progress().Update(static_cast<double>(tally->num_read()), 0, tally->Text());
  }
  if (tally->window_judged() > 0) context.Metrics(tally->TakeWindow());
  writer.Finish(reader.end_status());
  if (reader.end_status() == stream::EndStatus::kStopped) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
  record::RequireGoodEnd(reader.end_status());
}

/// For --print-config, by which a pipeline asks before it begins: refuses what a run would refuse.
void Check(Options& options, const cli::Given&) {
  reward::MakeScorer(options.scorer);
  reward::ParseOverlong(options.scorer.overlong);
}

void Run(const Options& options, cli::Context& context) {
  if (options.list) {
    for (const reward::ScorerInfo& info : reward::ListScorers())
      PrintOut(std::string(info.name) + std::string(9 - std::min<size_t>(8, std::strlen(info.name)), ' ') + info.help + "\n");
    return;
  }
  if (options.model.empty()) throw Error::Usage("--model is needed: its tokenizer turns tokens into text");
  reward::Tally tally;
  ScoreAll(options, context, &tally);
  if (tally.errors() > options.max_errors) {
    throw Error(
        ErrorKind::kRejects,
        "rollouts that could not be judged: " + std::to_string(tally.errors()) + ", more than --max-errors " + std::to_string(options.max_errors),
        "look at them: rollout-cat --json | grep '\"status\": *\"error\"'");
  }
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main("reward-score", "attach rewards to finished rollouts", kDescription, argc, argv, Run,
                   {.provenance = true, .metrics = true, .progress = true}, Check);
}
