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
  /// repeated one as before). Throws Peer after the timeout; an answer {"error": …} is rethrown with its kind, message and hint.
  virtual Map Call(Map request) = 0;
};

/// Serves one client request at a time, in the calling thread.
class RpcServer {
 public:
  static std::unique_ptr<RpcServer> Bind(const std::string& endpoint);
  virtual ~RpcServer() = default;
  using Handler = std::function<Map(const Map& request)>;
  /// Answers requests until a stop is requested or `timeout_ms` passed; returns the number answered. An Error thrown by the handler becomes the
  /// answer.
  virtual int64_t Serve(const Handler& handler, int64_t timeout_ms) = 0;
};

}  // namespace april::stream
