// claim, commit: groups to the trainer, and what became of them.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "buffer/admission.h"
#include "buffer/claiming.h"
#include "buffer/commands.h"
#include "buffer/hub_client.h"
#include "buffer/leasing.h"
#include "buffer/map_fields.h"
#include "buffer/printed_lines.h"
#include "buffer/putting.h"
#include "buffer/record_queue.h"
#include "buffer/stop_notice.h"
#include "buffer/store.h"
#include "record/io.h"

namespace april::buffer {
namespace {

/// Sleeps, but not through a stop request, nor through the end of the program that reads what this one writes to stdout.
void Pause(int64_t milliseconds, bool to_stdout) {
  pollfd watched[] = {{StopFd(), POLLIN, 0}, {to_stdout ? STDOUT_FILENO : -1, 0, 0}};
  ::poll(watched, 2, static_cast<int>(std::min<int64_t>(milliseconds, 60'000)));
  if (watched[1].revents & (POLLERR | POLLHUP)) {
    throw Error::Peer("the program that reads the claims is gone", "look at its message; what it did not commit is given again");
  }
}

constexpr const char* kNoPromptsHint = "no prompts are left: partial-buffer add -s DIR --prompts FILE brings more";

/// To a claim that no generator can help to its groups.
std::string ExhaustedHint(const std::string& waits_for) { return waits_for.find(kScoreCommand) == std::string::npos ? kNoPromptsHint : ""; }

/// What a claim that was not made has changed all the same.
std::string FilterNote(const ClaimOptions& options) {
  return options.filter.empty() ? "" : "; the filter " + options.filter + " holds from now on all the same";
}

class ClaimWriter {
 public:
  ClaimWriter(const ClaimOptions& options, const RunConfig& config, std::optional<uint64_t> version, Invocation& invocation)
      : invocation_(invocation),
        writer_(options.io.out, Header(config, version), {.compress = options.io.compress, .peer_timeout_ms = options.store.peer_timeout_ms}) {
    Summarise();
  }
  void Head(const ClaimInfo& info) {
    writer_.Write(ControlOf(info));
    ++claims_;
    replays_ += info.replay;
    groups_ += info.groups;
    rollouts_ += info.rollouts;
    Summarise();
  }
  void Records(const std::vector<std::string>& records) {
    for (const std::string& record : records) writer_.WriteEncoded(record);
  }
  void Flush() { writer_.Flush(); }
  void Finish(stream::EndStatus status) { writer_.Finish(status); }

 private:
  record::Header Header(const RunConfig& config, std::optional<uint64_t> version) const {
    record::Header header = StreamHeader(config);
    header.policy_version = version;
    return record::Signed(header, invocation_);
  }
  void Summarise() {
    invocation_.Report("claimed " + Count(claims_ - replays_, "step") + ", replayed " + std::to_string(replays_) + "; " + Count(groups_, "group") +
                           ", " + Count(rollouts_, "rollout"),
                       {{"claimed_steps", claims_ - replays_}, {"replayed_steps", replays_}, {"groups", groups_}, {"rollouts", rollouts_}}, claims_);
  }
  Invocation& invocation_;
  record::RecordWriter writer_;
  int64_t claims_ = 0, replays_ = 0, groups_ = 0, rollouts_ = 0;
};

std::optional<CheckpointInfo> FindCheckpoint(const ClaimOptions& options) {
  return options.checkpoints.empty() ? std::nullopt : NewestCheckpoint(SystemFiles(), options.checkpoints);
}

/// Throws Usage when the run has checkpoints, but not there: the trainer would be given steps that its weights do not continue.
void RequireCheckpoint(const ClaimOptions& options, const std::optional<CheckpointInfo>& newest, int64_t first) {
  if (options.checkpoints.empty() || newest || first == 0) return;
  throw Error::Usage("--checkpoints " + options.checkpoints +
                         (SystemFiles().Exists(options.checkpoints) ? " has no whole checkpoint" : " does not exist") +
                         ", but a checkpoint of this run contains " + Count(first, "step"),
                     "name the directory that grpo-step --from writes, with NAME/manifest.json in it");
}

std::optional<std::string> NameOf(const std::optional<CheckpointInfo>& checkpoint) {
  return checkpoint ? std::optional(checkpoint->name) : std::nullopt;
}

/// Claims [first, end) with their groups and members; `is_replay` tells whether one has to become the same weights again.
void WriteClaims(Store& store, int64_t first, int64_t end, const std::function<bool(const ClaimMeta&)>& is_replay, ClaimWriter* writer) {
  for (int64_t step = first; step < end; ++step) {
    const ClaimMeta& claim = *store.state().FindClaim(step);
    writer->Head(InfoOf(claim, is_replay(claim)));
    for (int64_t next = 0;;) {
      const std::vector<std::string> records = ClaimRecords(store, claim, next, HubClient::kMaxRecordBytes);
      if (records.empty()) break;
      writer->Records(records);
      next += static_cast<int64_t>(records.size());
    }
  }
}

/// Recorded claims once more, for a trainer that only compares. Takes no lock and changes nothing.
void ShowRecorded(const ClaimOptions& options, Invocation& invocation) {
  for (const char* name : {"groups", "filter", "follow"}) {
    if (invocation.given(name)) throw Error::Usage(std::string("--") + name + " does not go with --replay, which only gives what was recorded");
  }
  if (options.store.IsHub()) throw Error::Usage("--replay reads the buffer's directory", "name it with -s DIR; its hub may go on meanwhile");
  stream::Writer::RequireOpens(options.io.out);
  Store store(SystemFiles(), SystemClock(), options.store.store);
  const auto checkpoint =
      options.checkpoints.empty() ? std::nullopt : NewestCheckpoint(SystemFiles(), options.checkpoints, /*at_most=*/options.replay);
  const int64_t first = FirstStepToReplay(store.state(), options.replay, !options.checkpoints.empty(), checkpoint);
  ClaimWriter writer(options, store.state().config(), store.state().policy_version(), invocation);
  WriteClaims(
      store, first, options.replay + 1, [](const ClaimMeta&) { return true; }, &writer);
  writer.Finish(stream::EndStatus::kOk);
}

void ClaimByPath(const ClaimOptions& options, Invocation& invocation) {
  if (options.follow)
    throw Error::Usage("--follow needs a hub", "partial-buffer serve -s " + options.store.store + " --bind zmq+ipc://…, then -s zmq+ipc://… here");
  stream::Writer::RequireOpens(options.io.out);
  Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
  const State& state = store.state();
  const auto checkpoint = FindCheckpoint(options);
  std::string waits_for;
  int64_t first = 0, made = -1;
  store.Transact([&](Batch& batch) {
    SetFilter(state, batch, options.filter);
    first = FirstStepToEmit(state, checkpoint);
    RequireCheckpoint(options, checkpoint, first);
    if (state.first_uncommitted_step() < state.next_step()) return;  // the step at hand was claimed before
    const int64_t step = state.next_step();
    waits_for = MakeClaim(state, batch, options.groups == 0 ? state.config().groups_per_step : options.groups, NameOf(checkpoint));
    if (waits_for.empty()) made = step;
  });
  ClaimWriter writer(options, state.config(), state.policy_version(), invocation);
  WriteClaims(
      store, first, state.next_step(), [&](const ClaimMeta& claim) { return claim.step != made && MustRepeat(state, claim); }, &writer);
  writer.Finish(stream::EndStatus::kOk);
  if (!waits_for.empty()) {
    throw Error::NotReady("no new step was claimed; step " + std::to_string(state.next_step()) + " awaits " + waits_for + FilterNote(options),
                          IsExhausted(state) ? ExhaustedHint(waits_for) : "");
  }
}

constexpr int64_t kMaxPollMs = 50;
constexpr double kFirstWarningS = 60;  // then after twice the time, and so on

/// Asks until the claim is granted. nullopt: the hub ends, or a stop was requested.
std::optional<ClaimInfo> AwaitClaim(HubClient& hub, const ClaimOptions& options, int64_t step, const std::optional<std::string>& parent,
                                    const Invocation& invocation) {
  const double begin_s = SystemClock().MonotonicSeconds();
  for (double warn_s = begin_s + kFirstWarningS; !StopRequested();) {
    ClaimAnswer answer = hub.Claim(step, options.groups, parent, options.filter);
    if (answer.state == ClaimAnswer::State::kGranted) return answer.claim;
    if (answer.state == ClaimAnswer::State::kStopped) return std::nullopt;
    const std::string waits = "step " + std::to_string(step) + " awaits " + answer.waits_for;
    if (answer.state == ClaimAnswer::State::kEmpty) throw Error::NotReady(waits + FilterNote(options), ExhaustedHint(waits));
    if (!options.follow) throw Error::NotReady(waits + FilterNote(options));
    if (invocation.progress_due()) invocation.progress(static_cast<double>(step), static_cast<double>(options.steps), waits);
    const double now_s = SystemClock().MonotonicSeconds();
    if (now_s - begin_s >= static_cast<double>(options.max_wait_ms) / 1000) throw Error::NotReady(waits, "--max-wait-ms says how long it may wait");
    if (now_s >= warn_s) {
      log::Warn("for " + HumanSeconds(now_s - begin_s) + " " + waits);
      warn_s = now_s + (now_s - begin_s);
    }
    // The longer it has waited, the less a late look costs: a share of 1/64 on average.
    Pause(std::max(answer.poll_ms, std::min({kMaxPollMs, hub.beat_ms(), static_cast<int64_t>((now_s - begin_s) * 1000) / 32})),
          options.io.out == "-");
  }
  return std::nullopt;
}

void ClaimFromHub(const ClaimOptions& options, Invocation& invocation) {
  const auto checkpoint = FindCheckpoint(options);
  HubClient hub(options.store.store, "", options.store.peer_timeout_ms);
  const RunConfig config = hub.Hello("claim", options.follow && options.steps > 0 ? std::optional(options.steps) : std::nullopt);
  ClaimWriter writer(options, config, std::nullopt, invocation);
  stream::EndStatus status = stream::EndStatus::kOk;
  try {
    const int64_t end = options.follow && options.steps > 0 ? options.steps : kNoUpperLimit;
    const int64_t first = hub.FirstStep(checkpoint);
    RequireCheckpoint(options, checkpoint, first);
    for (int64_t step = first; step < end; ++step) {
      const auto claim = AwaitClaim(hub, options, step, NameOf(checkpoint), invocation);
      if (!claim) {
        status = stream::EndStatus::kStopped;
        break;
      }
      writer.Head(*claim);
      for (int64_t next = 0;;) {
        const std::vector<std::string> records = hub.FetchClaim(claim->id, next);
        if (records.empty()) break;
        writer.Records(records);
        next += static_cast<int64_t>(records.size());
      }
      writer.Flush();
      if (!options.follow && (!claim->replay || !claim->trained_version)) break;
    }
  } catch (const Error& error) {
    // Too little is left for another step: what was claimed is whole all the same.
    if (error.kind() == ErrorKind::kNotReady) writer.Finish(stream::EndStatus::kOk);
    throw;
  }
  writer.Finish(status);
  hub.Bye();
  if (status == stream::EndStatus::kStopped) invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
}

record::Record Decode(const std::string& bytes, int64_t index, const std::string& endpoint) {
  try {
    return record::DecodeRecord(bytes);
  } catch (const Error& error) {
    throw error.Within("record " + std::to_string(index) + " of " + (endpoint == "-" ? "stdin" : endpoint));
  }
}

/// Where `commit` commits: the buffer by path, or its hub.
class Committer {
 public:
  explicit Committer(const StoreOption& option) {
    if (option.IsHub()) {
      hub_ = std::make_unique<HubClient>(option.store, "", option.peer_timeout_ms);
      hub_->Hello("commit");
      const stream::Map stat = hub_->Stat();
      next_step_ = MapFields(stat, "answer of the hub").Int("first_uncommitted_step");
    } else {
      store_ = std::make_unique<Store>(SystemFiles(), SystemClock(), option.store, StoreOptions{.take_over = option.take_over});
      next_step_ = store_->state().first_uncommitted_step();
    }
  }
  const RunConfig& config() const { return hub_ ? hub_->config() : store_->state().config(); }
  /// What a step record has told.
  enum class Told { kStep, kCheckpoint, kNothingNew };
  Told Commit(const record::Step& step) {
    bool is_new = false;
    if (hub_) {
      is_new = hub_->Commit(step) == CommitOutcome::kCommitted;
    } else {
      store_->Transact([&](Batch& batch) { is_new = CommitStep(store_->state(), batch, step); });
    }
    if (!is_new) return Told::kNothingNew;
    if (step.step < next_step_) return Told::kCheckpoint;
    next_step_ = step.step + 1;
    return Told::kStep;
  }
  void Beat() {
    if (hub_) hub_->Beat();
  }
  int64_t BeatMs() const { return hub_ ? hub_->beat_ms() : 60'000; }
  void End() {
    if (hub_) hub_->Bye();
  }

 private:
  std::unique_ptr<Store> store_;
  std::unique_ptr<HubClient> hub_;
  int64_t next_step_ = 0;  ///< records of earlier steps that tell something new name the checkpoint that contains them
};

}  // namespace

void RunClaim(const ClaimOptions& options, Invocation& invocation) {
  for (const char* name : {"steps", "max-wait-ms"}) {
    if (!options.follow && invocation.given(name)) throw Error::Usage(std::string("--") + name + " belongs to --follow");
  }
  if (options.replay >= 0) return ShowRecorded(options, invocation);
  if (options.store.IsHub()) return ClaimFromHub(options, invocation);
  ClaimByPath(options, invocation);
}

void RunCommit(const CommitOptions& options, Invocation& invocation) {
  Committer committer(options.store);
  auto reader = std::make_unique<record::RecordReader>(options.io.in, options.store.Reading());
  CheckHeader(committer.config(), reader->header());
  std::unique_ptr<record::RecordWriter> writer;
  if (!options.io.out.empty()) {
    writer = std::make_unique<record::RecordWriter>(
        options.io.out, record::Signed(reader->header(), invocation),
        stream::WriterOptions{.compress = options.io.compress, .peer_timeout_ms = options.store.peer_timeout_ms});
  }
  RecordQueue queue(std::move(reader));
  int64_t committed = 0, checkpointed = 0, repeated = 0, other = 0;
  const auto summarise = [&] {
    const int64_t read = committed + checkpointed + repeated + other;
    invocation.Report("read " + std::to_string(read) + ", committed " + std::to_string(committed) + ", checkpointed " + std::to_string(checkpointed) +
                          ", repeated " + std::to_string(repeated) + ", other " + std::to_string(other),
                      {{"read", read}, {"committed", committed}, {"checkpointed", checkpointed}, {"repeated", repeated}, {"other", other}}, read);
  };
  summarise();
  StopNotice stop("committed");
  for (std::vector<std::string> records; stop.Take(queue, committer.BeatMs(), &records);) {
    if (records.empty()) committer.Beat();
    for (const std::string& bytes : records) {
      const record::Record record = Decode(bytes, committed + checkpointed + repeated + other, options.io.in);
      if (const auto* step = std::get_if<record::Step>(&record)) {
        const Committer::Told told = committer.Commit(*step);
        ++(told == Committer::Told::kStep ? committed : told == Committer::Told::kCheckpoint ? checkpointed : repeated);
      } else {
        ++other;
      }
      summarise();
      if (writer) {
        writer->WriteEncoded(bytes);
        writer->Flush();
      }
    }
  }
  if (writer) writer->Finish(queue.end_status());
  committer.End();
  if (committed + checkpointed + repeated == 0 && queue.end_status() == stream::EndStatus::kOk) {
    log::Warn("the stream has no step record: nothing was committed" +
              std::string(other > 0 ? "; put takes rollouts, commit what grpo-step writes" : "; if a claim was read, it stays and is given again"));
  }
  record::RequireGoodEnd(queue.end_status());
  if (queue.end_status() == stream::EndStatus::kStopped) invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
}

}  // namespace april::buffer
