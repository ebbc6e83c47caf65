// serve: the buffer's hub on a socket.
#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "buffer/commands.h"
#include "buffer/hub.h"
#include "buffer/printed_lines.h"
#include "buffer/statistics.h"
#include "buffer/store.h"
#include "stream/rpc.h"

namespace april::buffer {
namespace {

constexpr int64_t kTickMs = 200;
constexpr int64_t kMaxSilentMs = 10'000;  // at the end: a client that says nothing for so long is gone
constexpr double kMetricsIntervalS = 10;
constexpr size_t kUnsyncedRound = 16;  // a frame's worth when no sync stands behind it: more gains nothing, and its answers leave later
constexpr int64_t kReminderNs = 60'000'000'000;

/// Whoever reaches the hub may lease, put and commit: only this machine's programs do.
void RequireLocal(const std::string& bind) {
  constexpr std::string_view kTcp = "zmq+tcp://";
  if (!bind.starts_with(kTcp)) return;
  const std::string_view rest = std::string_view(bind).substr(kTcp.size());
  const std::string_view host = rest.substr(0, rest.rfind(':'));
  if (host == "localhost" || host == "[::1]" || (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos)) return;
  throw Error::Usage("--bind " + bind + " is not on this machine: requests are not authenticated, so a hub listens on ipc and loopback only",
                     "bind zmq+ipc://PATH or zmq+tcp://127.0.0.1:PORT; from another machine: ssh -N -L PORT:127.0.0.1:PORT HOST");
}

/// One line of --metrics: after every commit, and now and then in between.
Json MetricsLine(const Store& store, const Hub& hub) {
  const State& state = store.state();
  int64_t held = 0, tokens = 0;
  for (const auto& [admission, group] : state.groups()) {
    if (group.state == GroupState::kTrained || group.state == GroupState::kConsumed || group.state == GroupState::kDropped) continue;
    held += static_cast<int64_t>(group.members.size());
    for (const RolloutMeta& member : group.members) tokens += member.tokens;
  }
  const Totals& totals = state.totals();
  return {{"step", state.first_uncommitted_step()},
          {"held_rollouts", held},
          {"held_tokens", tokens},
          {"partial_rollouts", state.partial().size()},
          {"queued_rollouts", state.queued().size()},
          {"leased_rollouts", state.num_leased()},
          {"ready_groups", state.ready().size()},
          {"claimed_groups", state.num_claimed()},
          {"stalled_groups", state.num_stalled()},
          {"dropped_groups", NumDropped(totals)},
          {"trained_rollouts", totals.trained_rollouts},
          {"trained_tokens", totals.trained_tokens},
          {"finished_rollouts", totals.finished},
          {"sampled_mean_tokens", totals.sampled_lengths.Mean()},
          {"trained_mean_tokens", totals.trained_lengths.Mean()},
          {"superseded", totals.superseded},
          {"rejected", hub.put_counts().rejected},
          {"journal_bytes", store.journal().size_bytes()},
          {"demand", hub.CurrentDemand() == Demand::kGo      ? "go"
                     : hub.CurrentDemand() == Demand::kPause ? "pause"
                                                             : "drain"}};
}

std::string Summary(const Store& store, const Hub& hub) {
  const PutCounts& put = hub.put_counts();
  return "leased " + std::to_string(hub.num_leased()) + ", put " + std::to_string(put.Total()) + " (accepted " + std::to_string(put.accepted) +
         ", repeated " + std::to_string(put.repeated) + ", superseded " + std::to_string(put.superseded) + ", rejected " +
         std::to_string(put.rejected) + "), " + Count(store.state().first_uncommitted_step(), "step") + " committed, " +
         Count(hub.num_requests(), "request");
}

}  // namespace

void RunServe(const ServeOptions& options, Invocation& invocation) { Serve(options, invocation, SystemFiles()); }

void Serve(const ServeOptions& options, Invocation& invocation, FileSystem& files) {
  if (options.bind.empty()) throw Error::Usage("--bind is missing", "for example --bind zmq+ipc://run/hub");
  RequireLocal(options.bind);
  const Durability durability = Durability::Parse(options.durability);
  Store store(files, SystemClock(), options.store.store, {.take_over = options.store.take_over, .durability = durability});
  store.BeginServing(options.bind);
  store.Collect();
  HubOptions hub_options;
  hub_options.term_ms = options.term_ms;
  hub_options.poll_ms = std::min<int64_t>(hub_options.poll_ms, options.term_ms / 4);
  if (options.steps > 0) hub_options.steps = options.steps;
  hub_options.order = ParseTakeOrder(options.order);
  Hub hub(store, hub_options);
  const auto server = stream::RpcServer::Bind(options.bind);
  log::Info("serving " + options.store.store + " at " + options.bind + ": give the other programs -s, and rollout-gen --from, this address");
  const int64_t silent_ms = std::min(kMaxSilentMs, options.term_ms);
  const int64_t look_ms = durability.mode == Durability::Mode::kBatch ? std::min(kTickMs, durability.batch_ms) : kTickMs;  // for what begins to wait
  const size_t max_round = durability.mode == Durability::Mode::kSync ? stream::RpcServer::kMaxRound : kUnsyncedRound;
  int64_t sync_in_ms = look_ms, tick_at_ns = 0;
  std::optional<int64_t> give_up_ns;
  int64_t reported_step = store.state().first_uncommitted_step();
  double reported_s = SystemClock().MonotonicSeconds();
  for (;;) {
    server->Serve([&](const stream::Map& request) { return hub.Answer(request); }, sync_in_ms, [&] { store.Settle(); }, max_round);
    invocation.summary = Summary(store, hub);
    store.CheckWritable();
    sync_in_ms = std::min(look_ms, store.SyncIfDue().value_or(look_ms));
    if (SystemClock().MonotonicNs() < tick_at_ns) continue;
    tick_at_ns = SystemClock().MonotonicNs() + kTickMs * 1'000'000;
    hub.Tick();
    store.Settle();
    const double now_s = SystemClock().MonotonicSeconds();
    if (store.state().first_uncommitted_step() != reported_step || now_s - reported_s >= kMetricsIntervalS) {
      reported_step = store.state().first_uncommitted_step();
      reported_s = now_s;
      invocation.metrics(MetricsLine(store, hub));
    }
    if (StopRequested() && !give_up_ns) {
      hub.Drain();
      give_up_ns = SystemClock().MonotonicNs() + options.grace_ms * 1'000'000;
      log::Detail("stopping: generators drain, claims end");
    }
    if ((hub.Finished() || hub.draining()) && hub.HadSessions() && hub.Quiet(silent_ms)) break;
    if (give_up_ns && !hub.HadSessions()) break;
    if (give_up_ns && SystemClock().MonotonicNs() >= *give_up_ns) {
      if (!hub.AwaitsCommit()) break;
      // A step may train for longer than any grace; it ends by itself, or with its trainer.
      log::Info("stopping: waiting for the commit of step " + std::to_string(store.state().first_uncommitted_step()) +
                "; a second signal ends at once");
      give_up_ns = SystemClock().MonotonicNs() + kReminderNs;
    }
  }
  store.Finish();
  invocation.metrics(MetricsLine(store, hub));
  if (StopRequested() && !hub.Finished()) invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
}

}  // namespace april::buffer
