#include "rollout/sim_measure.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "base/signals.h"

namespace april::rollout {
namespace {

constexpr int64_t kWarmUpSteps = 2;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double Rounded(double ms) { return std::round(ms * 1e4) / 1e4; }

/// Slots that hold made-up rollouts, and their steps.
class Bench {
 public:
  Bench(Engine& engine, uint32_t vocab_size) : engine_(engine), vocab_size_(vocab_size), rollouts_(static_cast<size_t>(engine.num_slots())) {}

  /// Prompts differ, so that nothing is read once for several.
  void Start(int slot, int64_t positions) {
    record::Rollout& rollout = rollouts_[static_cast<size_t>(slot)];
    rollout = {};
    rollout.uid = ++num_started_;
    rollout.seed = 1;
    rollout.max_tokens = engine_.max_positions();
    for (int64_t i = 0; i < positions; ++i) {
      rollout.prompt_tokens.push_back(static_cast<uint32_t>(RandomBits(1, RandomUse::kTest, num_started_, static_cast<uint64_t>(i)) % vocab_size_));
    }
    if (!engine_.Start(slot, rollout)) {
      throw Error::Runtime("memory cannot hold " + std::to_string(engine_.num_slots()) + " rollouts of " + std::to_string(positions) + " positions",
                           "give more --memory, or a lower --in-flight");
    }
  }
  void Release(int slot) { engine_.Release(slot); }
  bool HasToken(int slot) const { return !rollouts_[static_cast<size_t>(slot)].tokens.empty(); }

  /// Returns milliseconds.
  double Step() {
    if (StopRequested()) throw Error::Stopped("stopped while measuring; no profile was written");
    events_.clear();
    const int64_t begin_ns = engine_.clock().MonotonicNs();
    engine_.Step(&events_);
    const auto ms = static_cast<double>(engine_.clock().MonotonicNs() - begin_ns) * 1e-6;
    for (const SlotEvent& event : events_) {
      if (event.kind == SlotEvent::Kind::kFailed) throw Error::Runtime("the engine failed while it was measured: " + event.error);
      if (event.kind == SlotEvent::Kind::kEvicted)
        throw Error::Runtime("memory became short while measuring", "give more --memory, or a lower --in-flight");
      record::Rollout& rollout = rollouts_[static_cast<size_t>(event.slot)];
      rollout.tokens.push_back(event.token);
      rollout.logprobs.push_back(event.logprob);
    }
    return ms;
  }

 private:
  Engine& engine_;
  uint32_t vocab_size_;
  std::vector<record::Rollout> rollouts_;
  std::vector<SlotEvent> events_;
  uint64_t num_started_ = 0;
};

double PrefillMs(Bench& bench, int64_t positions) {
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    bench.Start(0, positions);
    double ms = 0;
    while (!bench.HasToken(0)) ms += bench.Step();
    bench.Release(0);
    times.push_back(ms);
  }
  return Median(times);
}

/// Two lengths give both numbers: ms = token_ms * n + position_ms * n (n - 1) / 2.
void MeasurePrefill(Bench& bench, int64_t shorter, int64_t longer, SimProfile* profile) {
  const auto n = static_cast<double>(shorter), m = static_cast<double>(longer);
  const double a = PrefillMs(bench, shorter) / n;
  const double b = shorter == longer ? a : PrefillMs(bench, longer) / m;
  const double position_ms = shorter == longer ? 0 : std::max(0.0, (b - a) / ((m - n) / 2));
  profile->prefill_token_ms = Rounded(std::max(1e-4, b - position_ms * (m - 1) / 2));
  profile->prefill_position_ns = Rounded(position_ms * 1e6);
}

double StepMs(Bench& bench, int64_t steps) {
  std::vector<double> times;
  for (int64_t i = 0; i < kWarmUpSteps; ++i) bench.Step();
  for (int64_t i = 0; i < steps; ++i) times.push_back(bench.Step());
  return Rounded(Median(times));
}

}  // namespace

void MeasureEngine(Engine& engine, uint32_t vocab_size, const MeasureOptions& options, SimProfile* profile) {
  const auto slots = static_cast<int>(engine.num_slots());
  StepTimes& times = profile->decode;
  times = {};
  for (int64_t rows = 1; rows < slots; rows *= 2) times.rows.push_back(rows);
  times.rows.push_back(slots);
  const auto steps = static_cast<int64_t>(times.rows.size() + 1) * (options.steps + kWarmUpSteps) + slots;
  for (const int64_t context : options.contexts) {
    if (context + steps < engine.max_positions()) times.contexts.push_back(context);
  }
  if (times.contexts.empty())
    throw Error::Usage("the model's context of " + std::to_string(engine.max_positions()) + " positions is too short to be measured");
  times.table_ms.assign(times.rows.size(), std::vector<double>(times.contexts.size()));
  profile->max_positions = engine.max_positions();

  Bench bench(engine, vocab_size);
  options.progress(0, "reading prompts");
  MeasurePrefill(bench, std::min<int64_t>(128, times.contexts.back()), times.contexts.back(), profile);
  for (size_t c = 0; c < times.contexts.size(); ++c) {
    for (int slot = 0; slot < slots; ++slot) {
      bench.Start(slot, times.contexts[c]);
      while (!bench.HasToken(slot) && slot + 1 == slots) bench.Step();
    }
    int running = slots;
    for (size_t r = times.rows.size(); r-- > 0;) {
      while (running > times.rows[r]) bench.Release(--running);
      options.progress(
          static_cast<double>(c * times.rows.size() + times.rows.size() - r) / static_cast<double>(times.contexts.size() * times.rows.size()),
          std::to_string(times.rows[r]) + " rows behind " + std::to_string(times.contexts[c]) + " positions");
      times.table_ms[r][c] = StepMs(bench, options.steps);
    }
    bench.Release(0);
  }
}

LengthDistribution MeasuredLengths(std::vector<int64_t> tokens) {
  constexpr size_t kMost = 256;
  if (tokens.empty()) throw Error::Usage("no finished response tells how long responses become", "give finished rollouts, or a stream that has some");
  std::sort(tokens.begin(), tokens.end());
  LengthDistribution lengths;
  lengths.tokens.clear();
  const size_t count = std::min(tokens.size(), kMost);
  for (size_t i = 0; i < count; ++i) lengths.tokens.push_back(tokens[(2 * i + 1) * tokens.size() / (2 * count)]);
  return lengths;
}

}  // namespace april::rollout
