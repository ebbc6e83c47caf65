// Time, passed in where a test must own it.
#pragma once

#include <cstdint>

namespace april {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t MonotonicNs() const = 0;  ///< never goes back; not comparable between processes of different boots
  virtual int64_t WallNs() const = 0;       ///< since 1970-01-01 UTC
  double MonotonicSeconds() const { return static_cast<double>(MonotonicNs()) * 1e-9; }
};

/// The machine's clocks. Lives for ever.
const Clock& SystemClock();

}  // namespace april
