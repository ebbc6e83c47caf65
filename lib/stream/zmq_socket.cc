#include "stream/zmq_socket.h"

#include <net/if.h>
#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <zmq.hpp>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/signals.h"
#include "stream/value.h"

namespace april::stream {
namespace {

constexpr int kQueueMessages = 1000;
constexpr int kLingerMs = 2000;              // the last acknowledgement or request leaves, a dead peer does not hold the exit
constexpr int kHeartbeatMs = 5000;           // finds dead hosts; sent by ZeroMQ itself, so a busy program is no dead one
constexpr int kHeartbeatTimeoutMs = 30'000;  // a 64 MiB message on a slow network delays the heartbeats behind it
constexpr int kHandshakeMs = 10'000;
constexpr int kReconnectMs = 50, kReconnectMaxMs = 1000;
constexpr size_t kEnvelopeRoom = 64 << 10;
constexpr const char* kMonitorAddress = "inproc://monitor";

/// ZeroMQ would wait for ever for a directory that nobody makes, and would take over a socket that another process serves.
void CheckIpc(const Endpoint& endpoint) {
  if (!endpoint.address.starts_with("ipc://")) return;
  const std::string path = endpoint.address.substr(6);
  const std::string directory = DirectoryOf(path);
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    throw Error::Runtime("the directory of the socket zmq+" + endpoint.address + " does not exist", "mkdir -p " + directory);
  }
  if (!endpoint.bind) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool served = fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (fd >= 0) ::close(fd);
  if (served)
    throw Error::Runtime("the socket zmq+" + endpoint.address + " is served by another process", "stop that process, or choose another path");
}

/// The address that ZeroMQ is given: it binds to no host's name, only to addresses and interfaces, and takes a name to connect to for an IPv6 address
/// where it can. Who binds and who connects to a name mean the same address.
std::string Resolved(const Endpoint& endpoint) {
  constexpr std::string_view kTcp = "tcp://";
  const std::string& whole = endpoint.address;
  if (!whole.starts_with(kTcp)) return whole;
  const size_t colon = whole.rfind(':');
  const std::string host = whole.substr(kTcp.size(), colon - kTcp.size()), port = whole.substr(colon);
  if (host == "localhost") return "tcp://127.0.0.1" + port;
  if (!endpoint.bind || host == "*" || host.starts_with('[') || ::if_nametoindex(host.c_str()) != 0) return whole;
  for (const int family : {AF_INET6, AF_INET}) {
    addrinfo hints = {}, *found = nullptr;
    hints.ai_family = family;
    if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) continue;
    char address[NI_MAXHOST];
    const bool named = ::getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, nullptr, 0, NI_NUMERICHOST) == 0;
    ::freeaddrinfo(found);
    if (named) return family == AF_INET6 ? "tcp://[" + std::string(address) + "]" + port : "tcp://" + std::string(address) + port;
  }
  return whole;
}

/// ZeroMQ starts libpgm with its first context and ends it with its last, without a lock: one context, without sockets, lives as long as the process.
zmq::context_t NewContext() {
  static const auto* const first = new zmq::context_t;
  static_cast<void>(first);
  return zmq::context_t();
}

}  // namespace

struct ZmqSocket::Handles {
  zmq::context_t context = NewContext();
  zmq::socket_t socket;
  zmq::socket_t monitor;
  int wake_fd = -1;

  explicit Handles(zmq::socket_type type) : socket(context, type) {}
  ~Handles() {
    if (wake_fd >= 0) ::close(wake_fd);
  }
};

template <typename Action>
auto ZmqSocket::Try(const char* what, Action&& action) {
  for (;;) {
    try {
      return action();
    } catch (const zmq::error_t& error) {
      if (error.num() == EINTR) continue;
      const bool not_here = error.num() == ENODEV || error.num() == EADDRNOTAVAIL;
      throw Error::Runtime(std::string("cannot ") + what + " " + name_ + ": " + error.what(),
                           not_here ? "bind to an address of this machine (127.0.0.1; 0.0.0.0 is all of them) or to an interface's name" : "");
    }
  }
}

ZmqSocket::ZmqSocket(Kind kind, const Endpoint& endpoint) : name_((endpoint.bind ? "@zmq+" : "zmq+") + endpoint.address) {
  CheckIpc(endpoint);
  Try("make a socket for",
      [&] { handles_ = std::make_unique<Handles>(kind == Kind::kRouter ? zmq::socket_type::router : zmq::socket_type::dealer); });
  handles_->wake_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (handles_->wake_fd < 0) throw Error::System("cannot make an eventfd for", name_, errno);
  zmq::socket_t& socket = handles_->socket;
  Try("set the limits of", [&] {
    socket.set(zmq::sockopt::sndhwm, kQueueMessages);
    socket.set(zmq::sockopt::rcvhwm, kQueueMessages);
    socket.set(zmq::sockopt::linger, kLingerMs);
    socket.set(zmq::sockopt::heartbeat_ivl, kHeartbeatMs);
    socket.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeoutMs);
    socket.set(zmq::sockopt::heartbeat_ttl, kHeartbeatTimeoutMs);
    socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    socket.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
    socket.set(zmq::sockopt::reconnect_ivl_max, kReconnectMaxMs);
    socket.set(zmq::sockopt::immediate, false);  // true: a lost connection takes along what came through it and was not yet received
    socket.set(zmq::sockopt::ipv6, true);
    socket.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(DecodeLimits{}.max_bytes + kEnvelopeRoom));
  });
  const std::string address = Resolved(endpoint);
  Try(endpoint.bind ? "bind" : "connect to", [&] { endpoint.bind ? socket.bind(address) : socket.connect(address); });
}

ZmqSocket::~ZmqSocket() = default;

bool ZmqSocket::Send(const std::vector<std::string_view>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto flags = zmq::send_flags::dontwait | (i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    const auto sent = Try("send to", [&] { return handles_->socket.send(zmq::const_buffer(parts[i].data(), parts[i].size()), flags); });
    if (sent) continue;
    if (i == 0) return false;
    throw Error::Runtime("cannot send to " + name_ + ": part of a message was not taken");
  }
  return true;
}

bool ZmqSocket::Receive(std::vector<std::string>* parts) {
  zmq::message_t message;
  size_t num_parts = 0;  // the strings of the message before are written over
  do {
    if (!Try("receive from", [&] { return handles_->socket.recv(message, zmq::recv_flags::dontwait); })) return false;
    if (num_parts == parts->size()) parts->emplace_back();
    (*parts)[num_parts++].assign(message.data<char>(), message.size());
  } while (message.more());
  parts->resize(num_parts);
  return true;
}

ZmqSocket::Ready ZmqSocket::Wait(bool for_write, bool for_stop, int64_t timeout_ms) {
  const auto events = static_cast<short>(ZMQ_POLLIN | (for_write ? ZMQ_POLLOUT : 0));
  std::vector<zmq::pollitem_t> items = {{handles_->socket.handle(), 0, events, 0}, {nullptr, handles_->wake_fd, ZMQ_POLLIN, 0}};
  if (for_stop) items.push_back({nullptr, StopFd(), ZMQ_POLLIN, 0});
  if (handles_->monitor) items.push_back({handles_->monitor.handle(), 0, ZMQ_POLLIN, 0});
  try {
    zmq::poll(items, std::chrono::milliseconds(std::max<int64_t>(0, timeout_ms)));
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw Error::Runtime("cannot wait for " + name_ + ": " + error.what());
  }
  Ready ready;
  ready.readable = (items[0].revents & ZMQ_POLLIN) != 0;
  ready.writable = (items[0].revents & ZMQ_POLLOUT) != 0;
  ready.woken = (items[1].revents & ZMQ_POLLIN) != 0;
  ready.stop = for_stop && (items[2].revents & ZMQ_POLLIN) != 0;
  if (ready.woken) {
    uint64_t count_of_wakes = 0;
    [[maybe_unused]] const auto got = ::read(handles_->wake_fd, &count_of_wakes, sizeof count_of_wakes);
  }
  return ready;
}

void ZmqSocket::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(handles_->wake_fd, &one, sizeof one);
}

// zmq::monitor_t would do this, but it can neither be polled along with the socket nor be interrupted by a signal.
void ZmqSocket::WatchConnections() {
  Try("watch", [&] {
    if (zmq_socket_monitor(handles_->socket.handle(), kMonitorAddress, ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) != 0)
      throw zmq::error_t();
    handles_->monitor = zmq::socket_t(handles_->context, zmq::socket_type::pair);
    handles_->monitor.connect(kMonitorAddress);
  });
}

ZmqSocket::Connections ZmqSocket::CountConnections() {
  zmq::message_t message;
  while (Try("watch", [&] { return handles_->monitor.recv(message, zmq::recv_flags::dontwait); })) {
    if (message.size() != 6 || !message.more()) continue;  // a 16-bit event and a 32-bit value; its address follows as another part
    const auto event = LoadLe<uint16_t>(message.data());
    connections_.made += event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    connections_.lost += event == ZMQ_EVENT_DISCONNECTED;
  }
  return connections_;
}

int64_t NowMs() { return SystemClock().MonotonicNs() / 1'000'000; }

}  // namespace april::stream
