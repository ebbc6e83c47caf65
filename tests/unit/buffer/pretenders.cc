// Not tests (they do nothing without APRIL_PRETEND=1): a generator, a trainer and an auditor for scripts that kill processes
// (tests/fault/buffer_*.sh). They need no model and start at once.
//   unit_buffer '[.generator]' -o /dev/stderr: streams from stdin to stdout; APRIL_HUB: leases from that hub instead of stdin
//   unit_buffer '[.trainer]'   claims on stdin, steps on stdout, checkpoints in the directory APRIL_CHECKPOINTS
//   unit_buffer '[.scorer]'    streams from stdin to stdout: complete rollouts get APRIL_VALUE and the status APRIL_REWARD, or no reward (none)
//   unit_buffer '[.auditor]'   proves APRIL_STORE's journal: every token, every step, every rollout once
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <set>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/signals.h"
#include "buffer/claiming.h"
#include "buffer/hub_client.h"
#include "buffer_support.h"
#include "record/io.h"

namespace april {
namespace {

using namespace test;

std::string Environment(const char* name, const std::string& otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

int64_t Number(const char* name, int64_t otherwise) { return std::stoll(Environment(name, std::to_string(otherwise))); }

int64_t FinalLength(uint64_t uid) { return 1 + static_cast<int64_t>(Mix64(uid ^ 77) % 40); }

stream::WriterOptions Plain() {
  stream::WriterOptions options;
  options.compress = false;
  return options;
}

class PretendedGenerator {
 public:
  PretendedGenerator(const record::Header& header, uint64_t version) : writer_("-", header, Plain()), version_(version) {}

  /// A few tokens more, and what there is to say about them. Returns whether the rollout is finished.
  bool Advance(record::Rollout& rollout) {
    const int64_t left = FinalLength(rollout.uid) - static_cast<int64_t>(rollout.tokens.size());
    const record::Rollout before = rollout;
    rollout = Generate(rollout, std::min<int64_t>(4, left), version_);
    rollout.resumes = before.resumes;
    if (left > 4) {
      writer_.Write(Delta(before, rollout));
      return false;
    }
    const uint64_t kind = Mix64(rollout.uid ^ 5) % 16;
    const bool grader_fails = kind == 0;
    writer_.Write(kind == 1 ? Failed(rollout) : Scored(rollout, static_cast<double>(rollout.uid % 2), grader_fails ? "timeout" : "ok"));
    return true;
  }
  void GiveBack(const record::Rollout& rollout) { writer_.Write(rollout); }
  void Flush() { writer_.Flush(); }
  void Finish() { writer_.Finish(StopRequested() ? stream::EndStatus::kStopped : stream::EndStatus::kOk); }
  void set_version(uint64_t version) { version_ = version; }

 private:
  record::RecordWriter writer_;
  uint64_t version_;
};

void GenerateFromStream() {
  record::RecordReader reader("-", {});
  PretendedGenerator generator(reader.header(), static_cast<uint64_t>(Number("APRIL_VERSION", 0)));
  const int64_t rounds = Number("APRIL_ROUNDS", 4), delay_us = Number("APRIL_DELAY_US", 0);
  std::vector<record::Rollout> held;
  while (auto record = reader.Next()) {
    if (auto* rollout = std::get_if<record::Rollout>(&*record)) held.push_back(std::move(*rollout));
  }
  for (record::Rollout& rollout : held) rollout.resumes += !rollout.tokens.empty();
  for (int64_t round = 0; round < rounds; ++round) {
    std::erase_if(held, [&](record::Rollout& rollout) { return generator.Advance(rollout); });
    generator.Flush();
    ::usleep(static_cast<useconds_t>(delay_us));
  }
  for (const record::Rollout& rollout : held) generator.GiveBack(rollout);
  generator.Finish();
}

void GenerateFromHub(const std::string& address) {
  buffer::HubClient hub(address, Environment("APRIL_WORKER"), 20'000);
  const buffer::RunConfig config = hub.Hello("generate");
  PretendedGenerator generator(buffer::StreamHeader(config), 0);
  const int64_t delay_us = Number("APRIL_DELAY_US", 0);
  std::vector<record::Rollout> held;
  for (;;) {
    std::vector<uint64_t> uids;
    for (const record::Rollout& rollout : held) uids.push_back(rollout.uid);
    buffer::LeaseAnswer answer = hub.Lease(config.in_flight - static_cast<int64_t>(held.size()), uids, 0);
    std::erase_if(held, [&](const record::Rollout& rollout) { return std::count(answer.lost.begin(), answer.lost.end(), rollout.uid) > 0; });
    held.insert(held.end(), answer.rollouts.begin(), answer.rollouts.end());
    if (answer.demand == buffer::Demand::kDrain || StopRequested()) break;
    if (answer.min_version) generator.set_version(*answer.min_version);
    if (answer.demand == buffer::Demand::kGo) {
      std::erase_if(held, [&](record::Rollout& rollout) { return generator.Advance(rollout); });
      generator.Flush();
    }
    ::usleep(static_cast<useconds_t>(answer.demand == buffer::Demand::kGo && !held.empty() ? delay_us : 5'000));
  }
  for (const record::Rollout& rollout : held) generator.GiveBack(rollout);
  generator.Finish();
  hub.Bye();
}

/// What the trainer's weights become by a claim: a function of the weights before and of everything in the claim, in order.
uint64_t Train(uint64_t weights, const std::vector<record::Rollout>& rollouts) {
  for (const record::Rollout& rollout : rollouts) {
    weights = Mix64(weights ^ rollout.uid);
    for (size_t i = 0; i < rollout.tokens.size(); ++i) weights = Mix64(weights ^ rollout.tokens[i]);
  }
  return weights;
}

/// A run of all tests includes the hidden ones when it excludes others.
bool Asked() { return std::getenv("APRIL_PRETEND") != nullptr; }

constexpr uint64_t kFirstWeights = 4242;

/// Keeps its weights in memory, writes a checkpoint every third step and the last one at the end, as a trainer does.
class PretendedTrainer {
 public:
  explicit PretendedTrainer(std::string directory) : directory_(std::move(directory)) {
    SystemFiles().MakeDirectory(directory_);
    if (const auto newest = buffer::NewestCheckpoint(SystemFiles(), directory_)) {
      const Json json = Json::parse(ReadFile(SystemFiles(), JoinPath(directory_, newest->name + "/manifest.json")));
      next_step_ = newest->step;
      weights_ = json.at("weights").get<uint64_t>();
      for (const Json& step : json.at("steps"))
        Remember(step.at("claim").get<std::string>(), step.at("step").get<int64_t>(), step.at("weights").get<uint64_t>());
      checkpoint_ = newest->name;
    }
  }

  record::Step Step(const record::Control& control, const std::vector<record::Rollout>& rollouts) {
    const std::string claim = stream::Find(control.values, "claim")->AsString();
    const int64_t step = stream::Find(control.values, "step")->AsInt();
    for (const record::Step& done : done_) {
      if (done.claim == claim) return WithCheckpoint(done);
    }
    if (step != next_step_) throw std::runtime_error("claim of step " + std::to_string(step) + ", expected " + std::to_string(next_step_));
    weights_ = Train(weights_, rollouts);
    ++next_step_;
    Remember(claim, step, weights_);
    if (next_step_ % 3 == 0) Save();
    return WithCheckpoint(done_.back());
  }

 private:
  void Remember(const std::string& claim, int64_t step, uint64_t weights) {
    record::Step record;
    record.claim = claim;
    record.step = step;
    record.version = static_cast<uint64_t>(step) + 1;
    record.weights = weights;
    done_.push_back(record);
  }
  record::Step WithCheckpoint(record::Step step) const {
    if (!checkpoint_.empty() && step.step < std::stoll(checkpoint_.substr(5))) step.checkpoint = checkpoint_;
    return step;
  }
  void Save() {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08d", static_cast<int>(next_step_));
    SystemFiles().MakeDirectory(JoinPath(directory_, name));
    Json json = {{"step", next_step_}, {"version", next_step_}, {"weights", weights_}, {"steps", Json::array()}};
    for (const record::Step& step : done_) json["steps"].push_back({{"claim", step.claim}, {"step", step.step}, {"weights", step.weights}});
    ReplaceFile(SystemFiles(), JoinPath(directory_, std::string(name) + "/manifest.json"), json.dump(), true);
    checkpoint_ = name;
  }

  std::string directory_, checkpoint_;
  int64_t next_step_ = 0;
  uint64_t weights_ = kFirstWeights;
  std::vector<record::Step> done_;
};

}  // namespace

TEST_CASE("pretend to generate", "[.generator]") {
  if (!Asked()) return;
  InstallSignalHandlers();
  const std::string hub = Environment("APRIL_HUB");
  if (hub.empty()) {
    GenerateFromStream();
  } else {
    GenerateFromHub(hub);
  }
}

TEST_CASE("pretend to train", "[.trainer]") {
  if (!Asked()) return;
  PretendedTrainer trainer(Environment("APRIL_CHECKPOINTS", "checkpoints"));
  record::RecordReader reader("-", {});
  record::RecordWriter writer("-", reader.header(), Plain());
  std::optional<record::Control> claim;
  std::vector<record::Rollout> rollouts;
  while (auto record = reader.Next()) {
    if (auto* control = std::get_if<record::Control>(&*record)) claim = std::move(*control);
    if (auto* rollout = std::get_if<record::Rollout>(&*record)) rollouts.push_back(std::move(*rollout));
    if (!claim || static_cast<int64_t>(rollouts.size()) != stream::Find(claim->values, "rollouts")->AsInt()) continue;
    ::usleep(static_cast<useconds_t>(Number("APRIL_DELAY_US", 0)));
    const record::Step step = trainer.Step(*claim, rollouts);
    if (step.checkpoint && Number("APRIL_LATE", 0) == 1) {  // a record for the step, one more for the checkpoint, as grpo-step writes them
      record::Step bare = step;
      bare.checkpoint.reset();
      writer.Write(bare);
    }
    writer.Write(step);
    writer.Flush();
    claim.reset();
    rollouts.clear();
  }
  writer.Finish(reader.end_status());
}

TEST_CASE("score", "[.scorer]") {
  if (!Asked()) return;
  record::RecordReader reader("-", {});
  record::RecordWriter writer("-", reader.header(), Plain());
  const std::string status = Environment("APRIL_REWARD", "none");
  while (auto record = reader.Next()) {
    auto* rollout = std::get_if<record::Rollout>(&*record);
    if (rollout && rollout->status == record::Status::kComplete) {
      rollout->reward.reset();
      if (status != "none") *rollout = Scored(*rollout, static_cast<double>(Number("APRIL_VALUE", 1)), status);
    }
    writer.Write(*record);
  }
  writer.Finish(reader.end_status());
}

TEST_CASE("audit", "[.auditor]") {
  if (!Asked()) return;
  buffer::Store store(SystemFiles(), SystemClock(), Environment("APRIL_STORE"));
  const buffer::State& state = store.state();
  std::set<uint64_t> trained;
  uint64_t weights = kFirstWeights;
  for (int64_t step = 0; step < state.first_uncommitted_step(); ++step) {
    const buffer::ClaimMeta* claim = state.FindClaim(step);
    REQUIRE(claim != nullptr);  // init with --retain-steps large enough
    std::vector<record::Rollout> rollouts;
    for (const std::string& bytes : buffer::ClaimRecords(store, *claim, 0, 1u << 30)) {
      record::Record record = record::DecodeRecord(bytes);
      if (const auto* rollout = std::get_if<record::Rollout>(&record)) rollouts.push_back(*rollout);
    }
    for (const record::Rollout& rollout : rollouts) {
      INFO("rollout " << HexU64(rollout.uid));
      REQUIRE(trained.insert(rollout.uid).second);
      REQUIRE(static_cast<int64_t>(rollout.tokens.size()) == FinalLength(rollout.uid));
    }
    weights = Train(weights, rollouts);
    REQUIRE(claim->trained_weights == weights);
  }
  int64_t journaled = 0, held = 0;
  for (const auto& [admission, group] : state.groups()) {
    for (size_t index = 0; index < group.members.size(); ++index) {
      const record::Rollout rollout = store.ReadRollout(buffer::MakeKey(admission, index));
      for (size_t i = 0; i < rollout.tokens.size(); ++i) {
        REQUIRE(rollout.tokens[i] == TokenAt(rollout.uid, i));
        REQUIRE(rollout.logprobs[i] == LogprobAt(rollout.uid, i));
      }
      journaled += static_cast<int64_t>(rollout.tokens.size());
      if (!trained.contains(rollout.uid)) held += static_cast<int64_t>(rollout.tokens.size());
    }
  }
  CHECK(journaled == held + state.totals().trained_tokens);
  CHECK(static_cast<int64_t>(trained.size()) == state.totals().trained_rollouts);
  CHECK(state.first_uncommitted_step() >= Number("APRIL_STEPS", 0));
}

}  // namespace april
