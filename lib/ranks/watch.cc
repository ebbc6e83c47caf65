#include "ranks/watch.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/bytes.h"

namespace april::ranks {

std::unique_ptr<Watch> Watch::Start(const Place& place, Work work) {
  return place.rank == 0 ? StartHub(place, std::move(work)) : StartMember(place, std::move(work));
}

void Watch::OnLost(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
  if (lost_ && wake_) wake_();
}

std::optional<Lost> Watch::lost() {
  const std::lock_guard lock(mutex_);
  return lost_;
}

void Watch::SetLost(Lost lost) {
  if (lost_) return;
  lost_ = std::move(lost);
  if (wake_) wake_();
  changed_.notify_all();
}

std::string Watch::Name(int rank) const {
  const auto index = static_cast<size_t>(rank);
  const std::string name = index < names_.size() ? names_[index] : "";
  return "rank " + std::to_string(rank) + (name.empty() ? "" : " (" + name + ")");
}

Lost Watch::NotFinished(int rank) const {
  return {rank, "it lives, and did not come to the end within " + HumanSeconds(static_cast<double>(place_.patience_ms) / 1000)};
}

int Watch::RankIn(const stream::Value& value) const {
  const int64_t rank = value.AsInt();
  if (rank < 0 || rank >= place_.size) throw Error::Data("a message names rank " + std::to_string(rank) + ", and there is none");
  return static_cast<int>(rank);
}

std::optional<Lost> Watch::LostIn(const stream::Map& message) const {
  const stream::Value* lost = stream::Find(message, "lost");
  if (lost == nullptr) return std::nullopt;
  return Lost{RankIn(*lost), Need(message, "why").AsString()};
}

Error Watch::LostError() const {
  const std::string name = lost_->rank == place_.rank ? "this process, " + Name(lost_->rank) + "," : Name(lost_->rank);
  return Error::Peer(name + " is lost: " + lost_->why,
                     "its own messages say why; then start all ranks again: they go on from the newest checkpoint, and claims come again");
}

const stream::Value& Need(const stream::Map& message, const char* key) {
  const stream::Value* value = stream::Find(message, key);
  if (value == nullptr) throw Error::Data(std::string("a message between ranks has no '") + key + "'");
  return *value;
}

int64_t JoinLimitMs(const Place& place) { return 5 * place.timeout_ms; }

std::string LocalAddressToward(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  for (const int family : {AF_INET, AF_INET6}) {  // the same on all ranks where a name means both
    hints.ai_family = family;
    if (::getaddrinfo(host.c_str(), "9", &hints, &found) == 0) break;
    found = nullptr;
  }
  if (found == nullptr) throw Error::Runtime("the host '" + host + "' of rank 0 is not known here", "check MASTER_ADDR or --rank-address");
  std::string address;
  // Connecting sends nothing for this kind of socket: it chooses the interface.
  if (const int fd = ::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0); fd >= 0) {
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    char text[NI_MAXHOST];
    if (::connect(fd, found->ai_addr, found->ai_addrlen) == 0 && ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
      address = text;
    }
    ::close(fd);
  }
  ::freeaddrinfo(found);
  if (address.empty()) throw Error::Runtime("this machine has no way to the host '" + host + "' of rank 0");
  return address;
}

std::string ProcessName() {
  char host[256] = "?";
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + ", process " + std::to_string(::getpid());
}

}  // namespace april::ranks
