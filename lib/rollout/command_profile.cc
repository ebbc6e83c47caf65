#include "rollout/command_profile.h"

#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "record/io.h"
#include "rollout/sim_measure.h"

namespace april::rollout {
namespace {

constexpr int64_t kRows = 64;

std::string Processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "an unnamed processor";
}

/// "dir/smollm2.json" → "smollm2"
std::string NameOf(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  return file.ends_with(".json") ? file.substr(0, file.size() - 5) : file;
}

/// Of finished rollouts. One that its budget cut would have become longer: by one token at least.
std::vector<int64_t> ReadLengths(const stream::Endpoints& io) {
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = io.peer_timeout_ms;
  reading.sources = io.sources;
  record::RecordReader reader(io.in, reading);
  std::vector<int64_t> lengths;
  while (auto record = reader.Next()) {
    const auto* rollout = std::get_if<record::Rollout>(&*record);
    if (rollout == nullptr || rollout->status != record::Status::kComplete || rollout->tokens.empty()) continue;
    lengths.push_back(static_cast<int64_t>(rollout->tokens.size()) + (rollout->finish == record::Finish::kLength));
  }
  record::RequireGoodEnd(reader.end_status());
  return lengths;
}

}  // namespace

void WriteProfile(const std::string& path, const stream::Endpoints& io, Generator& generator, Invocation& invocation) {
  SimProfile profile;
  profile.name = NameOf(path);
  std::string lengths_from = "lengths: an example, not measured: give finished rollouts with --in";
  profile.lengths.kind = LengthDistribution::Kind::kLognormal;
  profile.lengths.median = 256;
  profile.lengths.sigma = 0.8;
  if (invocation.given("in")) {
    const std::vector<int64_t> lengths = ReadLengths(io);
    profile.lengths = MeasuredLengths(lengths);
    lengths_from = "lengths: of " + std::to_string(lengths.size()) + " finished responses; those that were cut by their budget count one token more";
  }

  MeasureOptions options;
  options.progress = [&](double done, const std::string& now) {
    if (invocation.progress_due()) invocation.progress(done, 1, now);
  };
  Engine& engine = generator.Start(kRows, options.contexts.back() + 256);
  profile.vocab_size = engine.vocab_size();
  profile.stop_token = generator.stop_tokens().front();
  MeasureEngine(engine, engine.vocab_size(), options, &profile);
  profile.source = {"decode, prefill: measured by rollout-gen --profile " + path + " on " + Processor() + ", " + std::to_string(generator.threads()) +
                        " threads, kernels " + engine.kernels() + ", model " + NameOf(generator.model_path()) + "; medians of " +
                        std::to_string(options.steps) + " steps, sampling and log-probabilities included, contexts up to 120 positions longer",
                    lengths_from};
  ReplaceFile(SystemFiles(), path, ProfileText(profile), false);
  const StepTimes& times = profile.decode;
  invocation.summary = "wrote " + path + ": a step of " + std::to_string(times.rows.back()) + " rows takes " +
                       Json(times.table_ms.back().front()).dump() + " ms, a prompt's token " + Json(profile.prefill_token_ms).dump() +
                       " ms; rollout-gen --engine sim:" + (path.ends_with(".json") ? path : "./" + path) + " simulates it";
}

}  // namespace april::rollout
