// Where a stream comes from or goes to, as --in and --out name it.
#pragma once

#include <string>

#include "base/options.h"

namespace april::stream {

struct Endpoint {
  enum class Kind { kStd, kFile, kZmq };
  Kind kind = Kind::kStd;
  bool bind = false;    ///< zmq only: a leading '@'
  std::string address;  ///< path, or "tcp://host:port", "ipc://path"

  /// "-", a path, "zmq+tcp://host:port", "zmq+ipc://path", each zmq form with an optional leading '@'. Throws Usage.
  static Endpoint Parse(const std::string& text);
};

/// The options --in and --out, and what both ends wait for.
struct Endpoints {
  std::string in = "-";
  std::string out = "-";
  int64_t peer_timeout_ms = 60'000;  ///< longest silence of a zmq peer before exit 6
  int64_t sources = 1;               ///< zmq fan-in: finish when this many streams ended
  bool compress = true;              ///< files are written as zstd
  void RegisterIn(OptionsVisitor& options);
  void RegisterOut(OptionsVisitor& options);
};

}  // namespace april::stream
