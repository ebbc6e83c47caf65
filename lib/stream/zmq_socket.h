// One ZeroMQ socket with every limit set explicitly; over cppzmq.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "stream/endpoint.h"

namespace april::stream {

class ZmqSocket {
 public:
  enum class Kind { kRouter, kDealer };

  /// Binds or connects. Throws Runtime: address in use or not allowed, or an ipc directory that is missing.
  ZmqSocket(Kind kind, const Endpoint& endpoint);
  ~ZmqSocket();
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  /// Queues one message of several parts; false when it would have to wait: the queue is full, or it binds and no peer has connected yet.
  bool Send(const std::vector<std::string_view>& parts);
  /// Takes the next message; false when none has come.
  bool Receive(std::vector<std::string>* parts);

  struct Ready {
    bool readable = false, writable = false, woken = false, stop = false;
  };
  /// Waits until the socket can be read (or written, if asked), Wake was called, a stop is requested (if asked), or the time is over.
  Ready Wait(bool for_write, bool for_stop, int64_t timeout_ms);
  /// Ends the current or next Wait. Safe from any thread; everything else belongs to one thread at a time.
  void Wake();

  /// Keeps account of connections from now on; call before the first Send.
  void WatchConnections();
  struct Connections {
    uint64_t made = 0, lost = 0;
  };
  /// How many were made and lost so far.
  Connections CountConnections();

 private:
  struct Handles;
  /// Runs `action` until no signal interrupts it. Throws Runtime: "cannot `what` NAME".
  template <typename Action>
  auto Try(const char* what, Action&& action);

  std::string name_;
  std::unique_ptr<Handles> handles_;
  Connections connections_;
};

/// Milliseconds of the monotonic clock.
int64_t NowMs();

}  // namespace april::stream
