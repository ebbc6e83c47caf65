// Sinks read on after a first signal, to the end that their source writes: they say so, lest somebody thinks that they hang.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/signals.h"
#include "buffer/record_queue.h"

namespace april::buffer {

class StopNotice {
 public:
  /// `done`: what happens to each record that is read: "put".
  explicit StopNotice(std::string done) : done_(std::move(done)) {}

  /// RecordQueue::Take, with one line on stderr once a stop is requested.
  bool Take(RecordQueue& queue, int64_t timeout_ms, std::vector<std::string>* records) {
    constexpr int64_t kLookMs = 250;
    const int64_t end_ns = SystemClock().MonotonicNs() + timeout_ms * 1'000'000;
    for (;;) {
      const int64_t left_ms = (end_ns - SystemClock().MonotonicNs()) / 1'000'000;
      const bool more = queue.Take(std::clamp<int64_t>(told_ ? left_ms : std::min(left_ms, kLookMs), 1, timeout_ms), records);
      Tell();
      if (!more || !records->empty() || SystemClock().MonotonicNs() >= end_ns) return more;
    }
  }

 private:
  void Tell() {
    if (told_ || !StopRequested()) return;
    told_ = true;
    log::Info("stopping: all that was read is " + done_ +
              ", and the input is read to its end; then the same pipeline goes on where this one ended. A second "
              "Ctrl-C ends at once, and what was " +
              done_ + " stays");
  }

  std::string done_;
  bool told_ = false;
};

}  // namespace april::buffer
