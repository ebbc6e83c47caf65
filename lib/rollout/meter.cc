#include "rollout/meter.h"

#include <algorithm>
#include <cmath>

namespace april::rollout {
namespace {

/// "1,204"
std::string Grouped(double value) {
  std::string digits = std::to_string(static_cast<int64_t>(std::llround(value)));
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

double PerSecond(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

double Rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

}  // namespace

Meter::Meter(const Engine& engine, const Scheduler& scheduler, int64_t target_groups)
    : engine_(engine),
      scheduler_(scheduler),
      target_groups_(target_groups),
      start_s_(engine.clock().MonotonicSeconds()),
      last_version_(engine.policy().version) {}

bool Meter::MetricsDue() const { return Seconds() - last_s_ >= 1 || engine_.policy().version != last_version_; }

Json Meter::TakeMetrics() {
  const Counters& now = scheduler_.counters();
  const EngineLoad load = engine_.load();
  const double seconds = Seconds(), elapsed = seconds - last_s_;
  const int64_t steps = now.steps - last_.steps;
  Json line;
  line["time_s"] = Rounded(seconds, 1e3);
  if (engine_.simulated()) line["simulated"] = true;  // all times are virtual
  line["policy_version"] = engine_.policy().version;
  line["tokens"] = now.tokens;
  line["tokens_per_s"] = Rounded(PerSecond(now.tokens - last_.tokens, elapsed), 10);
  line["steps"] = now.steps;
  line["slots"] = engine_.num_slots();
  line["running"] = now.running;
  line["waiting"] = now.waiting;
  // Share of slot-steps that held a rollout; pauses have no steps and show in tokens_per_s.
  line["occupancy"] =
      steps > 0 ? Rounded(static_cast<double>(now.busy_slot_steps - last_.busy_slot_steps) / static_cast<double>(steps * engine_.num_slots()), 1e4)
                : 0.0;
  line["decode_rows"] = now.decode_rows - last_.decode_rows;
  line["prefill_rows"] = now.prefill_rows - last_.prefill_rows;
  // Since the start, in steps that read no prompt: the speed of decoding alone.
  line["decode_tokens"] = now.decode_tokens;
  line["decode_s"] = Rounded(now.decode_ms * 1e-3, 1e6);
  // And in steps that decoded nothing: the speed of reading prompts alone.
  line["prefill_tokens"] = now.prefill_tokens;
  line["prefill_s"] = Rounded(now.prefill_ms * 1e-3, 1e6);
  line["kv_blocks"] = load.kv_blocks;
  line["kv_blocks_used"] = load.kv_blocks_used;
  line["read"] = now.read;
  line["finished"] = now.finished;
  line["finished_tokens"] = now.finished_tokens;
  line["length_finishes"] = now.length_finishes;
  line["failed"] = now.failed;
  line["resumed"] = now.resumed;
  line["evictions"] = now.evictions;
  line["whole_groups"] = now.whole_groups;
  last_ = now;
  last_s_ = seconds;
  last_version_ = engine_.policy().version;
  return line;
}

double Meter::done() const {
  const Counters& now = scheduler_.counters();
  if (target_groups_ > 0) return static_cast<double>(std::min(now.whole_groups, target_groups_));
  return static_cast<double>(now.finished + now.failed + now.passed);
}

double Meter::total() const {
  const Counters& now = scheduler_.counters();
  if (target_groups_ > 0) return static_cast<double>(std::min(now.groups, target_groups_));
  return now.groups > 0 ? static_cast<double>(now.read) : 0;  // a work source has no end
}

std::string Meter::ProgressText() const {
  const Counters& now = scheduler_.counters();
  const int64_t steps = now.steps - last_.steps;
  std::string text =
      Grouped(PerSecond(now.tokens, Seconds())) + " tokens/s, " + std::to_string(now.running) + "/" + std::to_string(engine_.num_slots()) + " slots";
  if (engine_.simulated()) text += ", simulated";
  if (steps == 0 && now.running > 0) text += " (paused)";
  if (now.groups > 0)
    text += ", " + std::to_string(now.whole_groups) + "/" + std::to_string(target_groups_ > 0 ? target_groups_ : now.groups) + " groups";
  text += ", " + std::to_string(now.finished) + " finished";
  if (now.waiting > 0) text += ", " + std::to_string(now.waiting) + " waiting";
  if (engine_.policy().version > 0) text += ", version " + std::to_string(engine_.policy().version);
  return text;
}

std::string Meter::Summary() const {
  const Counters& now = scheduler_.counters();
  const auto count = [](const char* name, int64_t value) { return ", " + std::string(name) + " " + std::to_string(value); };
  std::string text = "read " + std::to_string(now.read) + count("finished", now.finished) + count("partial", now.partial) +
                     count("queued", now.queued) + count("failed", now.failed) + count("passed", now.passed);
  if (now.lost > 0) text += count("lost", now.lost);
  const int64_t unwritten = now.read - now.finished - now.partial - now.queued - now.failed - now.passed - now.lost;
  if (unwritten > 0) text += count("not written", unwritten);  // the output was lost first
  return text + "; " + Grouped(static_cast<double>(now.tokens)) + " tokens, " + Grouped(PerSecond(now.tokens, Seconds())) + " tokens/s" +
         (engine_.simulated() ? " in simulated time" : "");
}

}  // namespace april::rollout
