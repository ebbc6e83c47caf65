// A rollout that is being generated: appends tokens, keeps segments and weight spans right, and says what a journal does not know yet.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "record/records.h"
#include "rollout/engine.h"
#include "rollout/stop_strings.h"

namespace april::rollout {

/// Bytes of one token, for stop strings.
using TokenBytes = std::function<std::string_view(uint32_t)>;

/// What ends a rollout besides its own sampling parameters.
struct Limits {
  std::vector<uint32_t> stop_tokens;  ///< of the model, for rollouts that name none
  int64_t max_positions = 0;          ///< context of the model: prompt and response together
  uint32_t vocab_size = 0;
  TokenBytes token_bytes;
};

class ActiveRollout {
 public:
  ActiveRollout(record::Rollout rollout, const Limits& limits);
  ActiveRollout(const ActiveRollout&) = delete;
  ActiveRollout& operator=(const ActiveRollout&) = delete;

  const record::Rollout& rollout() const { return rollout_; }
  /// Moves the finished or unfinished record out; status partial or queued is set when it is not done.
  record::Rollout Take();

  /// Why it cannot be generated at all (a token outside the vocabulary, a prompt that fills the context); empty when it can.
  std::string Defect() const;
  /// Whether it is done: status and finish are set. True before the first token when its budget was used up earlier.
  bool done() const { return rollout_.status == record::Status::kComplete || rollout_.status == record::Status::kFailed; }
  /// Whether the end came from the model's context, not from the rollout's own budget.
  bool hit_context_limit() const { return hit_context_limit_; }

  /// The next token opens a new segment (a start, a change of weights, a restart). `now_ms` is when its time begins.
  void BeginSegment(double now_ms);
  void Append(const SlotEvent& event, const Engine& engine, double now_ms);
  /// Ends it as failed; the reason is kept in meta under "generation_error".
  void Fail(const std::string& reason);

  /// Tokens since the last call (or since it was issued) as a delta; nullopt when there are none or nothing fences them (no lease).
  std::optional<record::Progress> TakeProgress();

 private:
  void CheckEnd();
  void Complete(record::Finish finish);

  record::Rollout rollout_;
  const Limits& limits_;
  StopStrings stop_strings_;
  bool truncates_ = false;
  bool hit_context_limit_ = false;
  bool taken_up_again_ = true;  // false until the first token of a resumed rollout: only then it counts as a resume
  bool segment_open_ = false;
  double segment_begin_ms_ = 0;
  size_t told_segment_ = static_cast<size_t>(-1);  // the segment that the last delta ended in, and how much of its time it told
  double told_wall_ms_ = 0;
  int64_t journaled_ = 0;  // response tokens that earlier deltas, or the issued record, hold
};

}  // namespace april::rollout
