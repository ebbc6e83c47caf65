#include "stream/zmq_socket.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

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

[[noreturn]] void ThrowZmq(const std::string& what, const std::string& name) {
  throw Error::Runtime("cannot " + what + " " + name + ": " + zmq_strerror(zmq_errno()));
}

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

}  // namespace

struct ZmqSocket::Handles {
  void* context = nullptr;
  void* socket = nullptr;
  void* monitor = nullptr;
  int wake_fd = -1;

  ~Handles() {
    if (monitor) zmq_close(monitor);
    if (socket) zmq_close(socket);
    if (context) {
      while (zmq_ctx_term(context) != 0 && zmq_errno() == EINTR) {
      }
    }
    if (wake_fd >= 0) ::close(wake_fd);
  }
};

ZmqSocket::ZmqSocket(Kind kind, const Endpoint& endpoint)
    : name_((endpoint.bind ? "@zmq+" : "zmq+") + endpoint.address), handles_(std::make_unique<Handles>()) {
  CheckIpc(endpoint);
  handles_->context = zmq_ctx_new();
  if (!handles_->context) ThrowZmq("make a context for", name_);
  handles_->socket = zmq_socket(handles_->context, kind == Kind::kRouter ? ZMQ_ROUTER : ZMQ_DEALER);
  if (!handles_->socket) ThrowZmq("make a socket for", name_);
  handles_->wake_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (handles_->wake_fd < 0) throw Error::System("cannot make an eventfd for", name_, errno);
  const auto set = [&](int option, int value) {
    if (zmq_setsockopt(handles_->socket, option, &value, sizeof value) != 0) ThrowZmq("set option " + std::to_string(option) + " of", name_);
  };
  set(ZMQ_SNDHWM, kQueueMessages);
  set(ZMQ_RCVHWM, kQueueMessages);
  set(ZMQ_LINGER, kLingerMs);
  set(ZMQ_HEARTBEAT_IVL, kHeartbeatMs);
  set(ZMQ_HEARTBEAT_TIMEOUT, kHeartbeatTimeoutMs);
  set(ZMQ_HEARTBEAT_TTL, kHeartbeatTimeoutMs);
  set(ZMQ_HANDSHAKE_IVL, kHandshakeMs);
  set(ZMQ_RECONNECT_IVL, kReconnectMs);
  set(ZMQ_RECONNECT_IVL_MAX, kReconnectMaxMs);
  set(ZMQ_IMMEDIATE, 0);  // with 1, a lost connection takes along what came through it and was not yet received: a last answer, say
  set(ZMQ_IPV6, 1);
  const auto max_message = static_cast<int64_t>(DecodeLimits{}.max_bytes + kEnvelopeRoom);
  if (zmq_setsockopt(handles_->socket, ZMQ_MAXMSGSIZE, &max_message, sizeof max_message) != 0) ThrowZmq("limit the messages of", name_);
  const int status = endpoint.bind ? zmq_bind(handles_->socket, endpoint.address.c_str()) : zmq_connect(handles_->socket, endpoint.address.c_str());
  if (status != 0) ThrowZmq(endpoint.bind ? "bind" : "connect to", name_);
}

ZmqSocket::~ZmqSocket() = default;

bool ZmqSocket::Send(const std::vector<std::string_view>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < parts.size() ? ZMQ_SNDMORE : 0);
    while (zmq_send(handles_->socket, parts[i].data(), parts[i].size(), flags) < 0) {
      const int error_number = zmq_errno();
      if (error_number == EINTR) continue;
      if (i == 0 && (error_number == EAGAIN || error_number == EHOSTUNREACH)) return false;
      ThrowZmq("send to", name_);
    }
  }
  return true;
}

bool ZmqSocket::Receive(std::vector<std::string>* parts) {
  parts->clear();
  zmq_msg_t message;
  int more = 1;
  while (more) {
    zmq_msg_init(&message);
    const int size = zmq_msg_recv(&message, handles_->socket, ZMQ_DONTWAIT);
    if (size < 0) {
      const int error_number = zmq_errno();
      zmq_msg_close(&message);
      if (error_number == EINTR) continue;
      if (error_number == EAGAIN) return false;
      ThrowZmq("receive from", name_);
    }
    parts->emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
    more = zmq_msg_more(&message);
    zmq_msg_close(&message);
  }
  return true;
}

ZmqSocket::Ready ZmqSocket::Wait(bool for_write, bool for_stop, int64_t timeout_ms) {
  const auto events = static_cast<short>(ZMQ_POLLIN | (for_write ? ZMQ_POLLOUT : 0));
  zmq_pollitem_t items[4] = {{handles_->socket, 0, events, 0}, {nullptr, handles_->wake_fd, ZMQ_POLLIN, 0}};
  int count = 2;
  const int stop_index = for_stop ? count++ : -1;
  if (for_stop) items[stop_index] = {nullptr, StopFd(), ZMQ_POLLIN, 0};
  if (handles_->monitor) items[count++] = {handles_->monitor, 0, ZMQ_POLLIN, 0};
  if (zmq_poll(items, count, std::max<int64_t>(0, timeout_ms)) < 0 && zmq_errno() != EINTR) ThrowZmq("wait for", name_);
  Ready ready;
  ready.readable = (items[0].revents & ZMQ_POLLIN) != 0;
  ready.writable = (items[0].revents & ZMQ_POLLOUT) != 0;
  ready.woken = (items[1].revents & ZMQ_POLLIN) != 0;
  ready.stop = for_stop && (items[stop_index].revents & ZMQ_POLLIN) != 0;
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

void ZmqSocket::WatchConnections() {
  if (zmq_socket_monitor(handles_->socket, kMonitorAddress, ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) != 0) ThrowZmq("watch", name_);
  handles_->monitor = zmq_socket(handles_->context, ZMQ_PAIR);
  if (!handles_->monitor || zmq_connect(handles_->monitor, kMonitorAddress) != 0) ThrowZmq("watch", name_);
}

ZmqSocket::Connections ZmqSocket::CountConnections() {
  zmq_msg_t message;
  for (;;) {
    zmq_msg_init(&message);
    const int size = zmq_msg_recv(&message, handles_->monitor, ZMQ_DONTWAIT);
    if (size == 6 && zmq_msg_more(&message)) {  // a 16-bit event and a 32-bit value; its address follows as another part
      const auto event = LoadLe<uint16_t>(zmq_msg_data(&message));
      connections_.made += event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
      connections_.lost += event == ZMQ_EVENT_DISCONNECTED;
    }
    zmq_msg_close(&message);
    if (size < 0 && zmq_errno() != EINTR) return connections_;
  }
}

uint64_t RandomId() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

int64_t NowMs() { return SystemClock().MonotonicNs() / 1'000'000; }

}  // namespace april::stream
