// Requests and answers over ZeroMQ: the buffer's hub and weight transfer. One msgpack map each way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "stream/value.h"

namespace april::stream {

/// A client of one server. One object, one thread.
class RpcClient {
 public:
  /// `endpoint` is "zmq+tcp://…" or "zmq+ipc://…". Does not wait for the server.
  static std::unique_ptr<RpcClient> Connect(const std::string& endpoint, int64_t timeout_ms);
  virtual ~RpcClient() = default;
  /// Sends the request and waits for its answer; resends after a lost connection (requests carry {incarnation, seq}, so the server answers a
  /// repeated one as before). Goes on while a stop is requested: draining needs answers. Throws Peer after the timeout; an answer {"error": …} is
  /// rethrown with its kind, message and hint.
  virtual Map Call(Map request) = 0;
};

/// Serves requests in the calling thread: takes those that have come, has each handled, then answers them all.
class RpcServer {
 public:
  static std::unique_ptr<RpcServer> Bind(const std::string& endpoint);
  virtual ~RpcServer() = default;
  using Handler = std::function<Map(const Map& request)>;
  using Settle = std::function<void()>;
  /// Answers requests until a stop is requested or `timeout_ms` passed; returns the number answered. With a stop requested already at the call, only
  /// the time ends it, so that clients can be served while they drain. An Error thrown by the handler becomes the answer.
  /// A repeated request gets its first answer again, from memory (the last answer to each client is kept while the server lives).
  /// With `settle`, no answer leaves before `settle` returned; what it throws becomes the answer to every request since it was called last. So one
  /// sync of a disk can stand behind the answers to many clients: to `max_round` at most. Where it costs little, a small round is better: clients
  /// work on its answers while the next one is handled.
  static constexpr size_t kMaxRound = 256;
  virtual int64_t Serve(const Handler& handler, int64_t timeout_ms, const Settle& settle = {}, size_t max_round = kMaxRound) = 0;
};

}  // namespace april::stream
