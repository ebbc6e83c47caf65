// take and put: rollouts out to a generator, and back.
#include <unistd.h>

#include <memory>
#include <set>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "buffer/admission.h"
#include "buffer/commands.h"
#include "buffer/hub_client.h"
#include "buffer/leasing.h"
#include "buffer/owner.h"
#include "buffer/printed_lines.h"
#include "buffer/putting.h"
#include "buffer/record_queue.h"
#include "buffer/stop_notice.h"
#include "buffer/store.h"
#include "record/io.h"

namespace april::buffer {
namespace {

std::string DefaultWorker() { return ThisMachine().host + "-" + std::to_string(::getpid()); }

/// Whether the user said a number, which what the run needs does not limit.
bool IsBeyondDemand(const TakeOptions& options) { return options.rollouts > 0 || options.groups > 0; }

/// How many rollouts to take.
LeaseRequest PlanTake(const TakeOptions& options, const State& state, uint64_t lease) {
  LeaseRequest request;
  request.lease = lease;
  request.worker = options.worker.empty() ? DefaultWorker() : options.worker;
  request.beyond_demand = IsBeyondDemand(options);
  request.order = ParseTakeOrder(options.order);
  request.max_rollouts = options.rollouts > 0 ? options.rollouts : options.groups * state.config().group_size;
  if (!request.beyond_demand && GroupsWanted(state) > 0) request.max_rollouts = RolloutsWanted(state);
  return request;
}

/// Why a take found nothing; throws NotReady when others hold what is missing.
std::string WhyNothing(const State& state, bool beyond_demand) {
  if (!beyond_demand && GroupsWanted(state) == 0) return "nothing to take: what is ready or claimed is enough for the next step";
  if (state.num_leased() > 0) {
    std::string workers;
    for (const auto& [lease, set] : state.leases()) {
      if (!set.held.empty()) workers += (workers.empty() ? "" : ", ") + set.worker + " (" + std::to_string(set.held.size()) + ")";
    }
    throw Error::NotReady("nothing to take: rollouts are leased by " + workers,
                          "when such a worker is dead: partial-buffer take --worker NAME takes its rollouts back");
  }
  if (const int64_t unscored = NumAwaitingScore(state); unscored > 0)
    return "nothing to take: " + Count(unscored, "complete rollout") + " of its last groups " + (unscored == 1 ? "waits" : "wait") +
           " for a score: " + kScoreCommand;
  if (state.num_stalled() > 0 && state.groups_admitted() == state.queue().num_groups()) {
    return "nothing to take: every prompt was issued; " + Count(state.num_stalled(), "group") + " with too few scored members";
  }
  return "nothing to take: every prompt was issued; partial-buffer add brings more";
}

record::Control TakeControl(const State& state, uint64_t lease, size_t rollouts) {
  record::Control control;
  control.kind = "take";
  control.values = {{"lease", lease}, {"rollouts", uint64_t{rollouts}}, {"groups_wanted", GroupsWanted(state)}};
  return control;
}

constexpr const char* kCutHint =
    "what arrived is kept; partial-buffer take --worker NAME, with the name of the take that it is of (partial-buffer stat shows it), gives the rest "
    "out again";

/// Where `put` puts: the buffer by path, or its hub.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual const RunConfig& config() const = 0;
  virtual void Put(const std::vector<std::string>& records) = 0;
  virtual void Beat() {}
  virtual int64_t BeatMs() const { return 60'000; }
  /// The input was cut: nothing more will come of it.
  virtual void Cut() {}
  /// The input's end was verified. Returns how many rollouts went back to the queue, where that is known.
  virtual int64_t End() = 0;
  const PutCounts& counts() const { return counts_; }

 protected:
  PutCounts counts_;
  std::set<uint64_t> leases_;
};

class StoreSink final : public Sink {
 public:
  explicit StoreSink(const PutOptions& options)
      : durability_(Durability::Parse(options.durability)),
        store_(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over, .durability = durability_}) {}
  const RunConfig& config() const override { return store_.state().config(); }
  void Put(const std::vector<std::string>& records) override {
    constexpr size_t kBatchBytes = 4u << 20;
    for (size_t next = 0; next < records.size();) {
      store_.Transact(
          [&](Batch& batch) {
            for (; next < records.size() && batch.size_bytes() < kBatchBytes; ++next) PutRecord(store_, batch, records[next], &counts_, &leases_);
          },
          Wait::kAsLongAsAllowed);
    }
    store_.SyncIfDue();
  }
  void Beat() override { store_.SyncIfDue(); }
  int64_t BeatMs() const override { return durability_.mode == Durability::Mode::kBatch ? durability_.batch_ms : Sink::BeatMs(); }
  void Cut() override { store_.Sync(); }
  int64_t End() override {
    int64_t returned = 0;
    store_.Transact([&](Batch& batch) {
      for (const uint64_t lease : leases_) returned += ReleaseLease(store_.state(), batch, lease, "ended");
    });
    store_.Finish();
    return returned;
  }

 private:
  Durability durability_;
  Store store_;
};

class HubSink final : public Sink {
 public:
  explicit HubSink(const StoreOption& option) : client_(option.store, "", option.peer_timeout_ms) { client_.Hello("put"); }
  const RunConfig& config() const override { return client_.config(); }
  void Put(const std::vector<std::string>& records) override { counts_ += client_.Put(records, &leases_); }
  void Beat() override { client_.Beat(); }
  int64_t BeatMs() const override { return client_.beat_ms(); }
  void Cut() override {
    client_.PutEnd({leases_.begin(), leases_.end()}, /*whole=*/false);
    client_.Bye();
  }
  int64_t End() override {
    client_.PutEnd({leases_.begin(), leases_.end()}, /*whole=*/true);
    client_.Bye();
    return 0;
  }

 private:
  HubClient client_;
};

std::unique_ptr<Sink> OpenSink(const PutOptions& options) {
  if (options.store.IsHub()) return std::make_unique<HubSink>(options.store);
  return std::make_unique<StoreSink>(options);
}

}  // namespace

void RunTake(const TakeOptions& options, Invocation& invocation) {
  if (options.rollouts > 0 && options.groups > 0) throw Error::Usage("--rollouts and --groups exclude each other");
  stream::Writer::RequireOpens(options.io.out);
  Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
  const State& state = store.state();
  const uint64_t lease = RandomId();
  std::vector<uint64_t> keys;
  int64_t reclaimed = 0;
  store.Transact(
      [&](Batch& batch) {
        if (!options.worker.empty()) reclaimed = ReleaseWorker(state, batch, options.worker, lease, "reclaimed");
        keys = LeaseRollouts(store, batch, PlanTake(options, state, lease));
      },
      Wait::kNo, Room::kFree);
  size_t written = 0, resumed = 0;
  // What nobody saw returns at once; the rest may be on its way.
  const auto give_back = [&] {
    ReleaseEntry unseen{lease, "returned", {}};
    for (size_t i = written; i < keys.size(); ++i) unseen.rollouts.push_back(state.rollout(keys[i]).uid);
    if (!unseen.rollouts.empty()) store.Transact([&](Batch& batch) { batch.Add(unseen); });
  };
  bool stopped = false;
  try {
    record::RecordWriter writer(options.io.out, record::Signed(StreamHeader(state.config()), invocation),
                                {.compress = options.io.compress, .peer_timeout_ms = options.io.peer_timeout_ms});
    writer.Write(TakeControl(state, lease, keys.size()));
    for (; written < keys.size() && !stopped; ++written) {
      const record::Rollout rollout = store.ReadRollout(keys[written]);
      resumed += !rollout.tokens.empty();
      writer.Write(rollout);
      stopped = StopRequested();
    }
    writer.Finish(stopped && written < keys.size() ? stream::EndStatus::kStopped : stream::EndStatus::kOk);
  } catch (...) {
    give_back();
    throw;
  }
  if (written < keys.size()) {
    give_back();
    invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
  }
  invocation.Report("took " + Count(static_cast<int64_t>(written), "rollout") + ", of them " + std::to_string(resumed) + " to resume; reclaimed " +
                        std::to_string(reclaimed),
                    {{"rollouts", written}, {"resumed", resumed}, {"reclaimed", reclaimed}});
  if (keys.empty()) log::Info(WhyNothing(state, IsBeyondDemand(options)));
}

void RunPut(const PutOptions& options, Invocation& invocation) {
  const auto sink = OpenSink(options);
  auto reader = std::make_unique<record::RecordReader>(options.io.in, options.store.Reading(options.io.sources));
  CheckHeader(sink->config(), reader->header());
  RecordQueue queue(std::move(reader));
  int64_t read = 0, returned = 0;
  const auto summarise = [&](bool whole) {
    const PutCounts& counts = sink->counts();
    const int64_t other = read - counts.Total();
    std::string line = "read " + std::to_string(read) + ", accepted " + std::to_string(counts.accepted) + ", repeated " +
                       std::to_string(counts.repeated) + ", superseded " + std::to_string(counts.superseded) + ", rejected " +
                       std::to_string(counts.rejected) + ", other " + std::to_string(other);
    if (whole && returned > 0) line += "; " + Count(returned, "leased rollout") + " returned to the queue";
    invocation.Report(std::move(line),
                      {{"read", read},
                       {"accepted", counts.accepted},
                       {"repeated", counts.repeated},
                       {"superseded", counts.superseded},
                       {"rejected", counts.rejected},
                       {"other", other},
                       {"returned", returned}},
                      read);
  };
  StopNotice stop("put");
  try {
    for (std::vector<std::string> records; stop.Take(queue, sink->BeatMs(), &records);) {
      if (records.empty()) {
        sink->Beat();
        continue;
      }
      read += static_cast<int64_t>(records.size());
      sink->Put(records);
      summarise(false);
      // At once, not only at the end: a resident sink may have no end for days.
      if (sink->counts().rejected > 0) log::WarnOnce("a record was rejected", "a record was rejected: " + sink->counts().first_reject);
    }
    returned = sink->End();
  } catch (const Error& error) {
    summarise(false);
    if (error.kind() != ErrorKind::kData) throw;
    sink->Cut();
    throw error.WithHint(error.hint().empty() ? kCutHint : std::string(kCutHint) + "; " + error.hint());
  }
  summarise(true);
  const PutCounts& counts = sink->counts();
  if (counts.rejected > options.max_rejects) {
    throw Error(ErrorKind::kRejects, Count(counts.rejected, "defective record") + ", allowed are " + std::to_string(options.max_rejects) +
                                         "; the first: " + counts.first_reject);
  }
  record::RequireGoodEnd(queue.end_status());
  if (queue.end_status() == stream::EndStatus::kStopped) invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
}

}  // namespace april::buffer
