#include "stream/endpoint.h"

#include "base/error.h"

namespace april::stream {
namespace {

constexpr const char* kForms = "an endpoint is -, a path, zmq+tcp://HOST:PORT or zmq+ipc://PATH; a leading @ binds the socket instead of connecting";

/// The port of "host:port"; throws when the form is another.
void CheckTcp(const std::string& text, const std::string& rest) {
  const size_t colon = rest.rfind(':');
  const std::string port = colon == std::string::npos ? "" : rest.substr(colon + 1);
  const bool digits = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  if (colon == 0 || !digits || std::stoi(port) > 65535) {
    throw Error::Usage("endpoint " + text + " has no host and port", "for example zmq+tcp://localhost:5555, or @zmq+tcp://*:5555 to bind");
  }
}

}  // namespace

Endpoint Endpoint::Parse(const std::string& text) {
  if (text.empty()) throw Error::Usage("an endpoint is empty", kForms);
  if (text == "-") return {Kind::kStd, false, "-"};
  const bool bind = text[0] == '@';
  const std::string rest = bind ? text.substr(1) : text;
  if (rest.starts_with("zmq+tcp://")) {
    CheckTcp(text, rest.substr(10));
    return {Kind::kZmq, bind, rest.substr(4)};
  }
  if (rest.starts_with("zmq+ipc://")) {
    constexpr size_t kMaxPath = 107;  // sun_path holds 108 bytes with its terminating zero
    const std::string path = rest.substr(10);
    if (path.empty()) throw Error::Usage("endpoint " + text + " has no path", "for example zmq+ipc://run/hub");
    if (path.size() > kMaxPath) {
      throw Error::Usage("the socket path in " + text + " has " + std::to_string(path.size()) + " bytes, more than the " + std::to_string(kMaxPath) +
                             " that the system allows",
                         "use a shorter or relative path");
    }
    return {Kind::kZmq, bind, rest.substr(4)};
  }
  if (rest.find("://") != std::string::npos || bind) throw Error::Usage("endpoint " + text + " is of no known kind", kForms);
  return {Kind::kFile, false, text};
}

void Endpoints::RegisterIn(OptionsVisitor& options) {
  options.Text("i,in", &in, "ENDPOINT",
               "where the stream comes from: - (stdin), a file (raw or zstd), zmq+tcp://HOST:PORT or zmq+ipc://PATH; @ in front binds");
  options.Integer("sources", &sources, 1, 1 << 16, "ZeroMQ: end after this many writers have ended");
  options.Integer("peer-timeout-ms", &peer_timeout_ms, 100, 86'400'000, "ZeroMQ: exit 6 when the other side has been silent for so long");
}

void Endpoints::RegisterOut(OptionsVisitor& options) {
  options.Text("o,out", &out, "ENDPOINT",
               "where the stream goes: - (stdout), a file (zstd), zmq+tcp://HOST:PORT or zmq+ipc://PATH; @ in front binds");
  options.Flag("compress", &compress, "write files as zstd; raw otherwise");
}

}  // namespace april::stream
