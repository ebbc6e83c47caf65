#include "stream/rpc.h"

#include <algorithm>
#include <limits>
#include <list>
#include <optional>
#include <unordered_map>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "stream/zmq_socket.h"

namespace april::stream {
namespace {

constexpr size_t kMaxClients = 4096;
constexpr uint64_t kMaxAnswerBytes = 256u << 20;
// So that neither memory nor the wait of a round's first request grows without bound.
constexpr uint64_t kMaxRoundBytes = 32u << 20;
constexpr size_t kMaxRoundMessages = 4096;

struct KindName {
  ErrorKind kind;
  const char* name;
};
constexpr KindName kKindNames[] = {
    // on the wire: do not change
    {ErrorKind::kRuntime, "runtime"}, {ErrorKind::kUsage, "usage"}, {ErrorKind::kData, "data"},          {ErrorKind::kIncompatible, "incompatible"},
    {ErrorKind::kRejects, "rejects"}, {ErrorKind::kPeer, "peer"},   {ErrorKind::kNotReady, "not_ready"}, {ErrorKind::kStopped, "stopped"},
};

Map ErrorAnswer(const Error& error) {
  const char* name = "runtime";
  for (const KindName& entry : kKindNames) {
    if (entry.kind == error.kind()) name = entry.name;
  }
  return {{"error", Map{{"kind", name}, {"message", error.message()}, {"hint", error.hint()}}}};
}

std::string TextAt(const Map& map, const char* key) {
  const Value* value = Find(map, key);
  return value ? value->AsString() : std::string();
}

void RethrowError(const Map& answer) {
  const Value* value = Find(answer, "error");
  if (!value) return;
  const Map& error = value->AsMap();
  const std::string kind = TextAt(error, "kind");
  ErrorKind known = ErrorKind::kRuntime;
  for (const KindName& entry : kKindNames) {
    if (kind == entry.name) known = entry.kind;
  }
  throw Error(known, TextAt(error, "message"), TextAt(error, "hint"));
}

Endpoint ParseSocket(const std::string& text, bool bind) {
  Endpoint endpoint = Endpoint::Parse(text);
  if (endpoint.kind != Endpoint::Kind::kZmq) throw Error::Usage(text + " is no socket", "for example zmq+ipc://run/hub or zmq+tcp://localhost:5555");
  endpoint.bind = bind;
  return endpoint;
}

std::optional<uint64_t> UintAt(const Map& map, const char* key) {
  const Value* value = Find(map, key);
  const uint64_t* found = value ? std::get_if<uint64_t>(&value->held()) : nullptr;
  return found ? std::optional(*found) : std::nullopt;
}

class Client final : public RpcClient {
 public:
  Client(const std::string& endpoint, int64_t timeout_ms)
      : name_(endpoint), timeout_ms_(timeout_ms), incarnation_(RandomId()), socket_(ZmqSocket::Kind::kDealer, ParseSocket(endpoint, false)) {
    socket_.WatchConnections();
  }

  Map Call(Map request) override {
    Set(request, "incarnation", incarnation_);
    Set(request, "seq", ++seq_);
    const std::string bytes = Encode(request);
    if (bytes.size() > DecodeLimits{}.max_bytes) throw Error::Data("a request of " + HumanBytes(bytes.size()) + ", more than one message may have");
    const int64_t deadline = NowMs() + timeout_ms_;
    bool sent = false;
    uint64_t lost = socket_.CountConnections().lost;
    for (int64_t now = NowMs(); now < deadline; now = NowMs()) {
      const auto ready = socket_.Wait(!sent, false, deadline - now);
      if (auto answer = ready.readable ? Receive() : std::nullopt) {
        RethrowError(*answer);
        return std::move(*answer);
      }
      if (const uint64_t lost_now = socket_.CountConnections().lost; lost_now != lost) {
        lost = lost_now;
        sent = false;  // the request or its answer may be lost with it: the server knows a repeated request by its numbers
      } else if (!sent && ready.writable) {
        sent = socket_.Send({bytes});
      }
    }
    const bool connected = socket_.CountConnections().made > lost;
    throw Error::Peer((connected ? "no answer from " : "no server at ") + name_ + " within " + HumanSeconds(static_cast<double>(timeout_ms_) / 1000),
                      connected ? "is it busy? its own messages tell" : "start the server, or look at its messages");
  }

 private:
  /// The answer to the current request, if it is among what has come.
  std::optional<Map> Receive() {
    std::vector<std::string> parts;
    while (socket_.Receive(&parts)) {
      if (parts.size() != 1) continue;
      Value answer = Decode(parts[0]);
      if (UintAt(answer.AsMap(), "incarnation") != incarnation_ || UintAt(answer.AsMap(), "seq") != seq_)
        continue;  // of an earlier, repeated request
      return std::move(std::get<Map>(answer.held()));
    }
    return std::nullopt;
  }

  const std::string name_;
  const int64_t timeout_ms_;
  const uint64_t incarnation_;
  uint64_t seq_ = 0;
  ZmqSocket socket_;
};

/// The last answer to each client, most recently used first, bounded in number and bytes.
class AnswerCache {
 public:
  struct Entry {
    uint64_t incarnation, seq;
    std::string answer;
  };

  const Entry* Find(uint64_t incarnation) {
    const auto found = index_.find(incarnation);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &entries_.front();
  }

  const Entry& Put(Entry entry) {
    bytes_ += entry.answer.size();
    if (const auto found = index_.find(entry.incarnation); found != index_.end()) {
      bytes_ -= found->second->answer.size();
      *found->second = std::move(entry);
      entries_.splice(entries_.begin(), entries_, found->second);
    } else {
      entries_.push_front(std::move(entry));
      index_[entries_.front().incarnation] = entries_.begin();
    }
    while (entries_.size() > 1 && (entries_.size() > kMaxClients || bytes_ > kMaxAnswerBytes)) Erase(std::prev(entries_.end()));
    return entries_.front();
  }

 private:
  void Erase(std::list<Entry>::iterator entry) {
    bytes_ -= entry->answer.size();
    index_.erase(entry->incarnation);
    entries_.erase(entry);
  }

  std::list<Entry> entries_;
  std::unordered_map<uint64_t, std::list<Entry>::iterator> index_;
  uint64_t bytes_ = 0;
};

class Server final : public RpcServer {
 public:
  explicit Server(const std::string& endpoint) : name_(endpoint), socket_(ZmqSocket::Kind::kRouter, ParseSocket(endpoint, true)) {}

  int64_t Serve(const Handler& handler, int64_t timeout_ms, const Settle& settle, size_t max_round) override {
    const bool notice_stop = !StopRequested();
    const int64_t now = NowMs();
    const int64_t deadline = timeout_ms > std::numeric_limits<int64_t>::max() - now ? std::numeric_limits<int64_t>::max() : now + timeout_ms;
    int64_t num_answered = 0;
    for (;;) {
      const int64_t answered = Round(handler, settle, max_round);
      num_answered += answered;
      if ((notice_stop && StopRequested()) || NowMs() >= deadline) return num_answered;
      if (answered == 0) socket_.Wait(false, notice_stop, deadline - NowMs());
    }
  }

 private:
  struct Pending {
    std::vector<std::string> peers;  ///< one, or every connection over which it was repeated
    AnswerCache::Entry entry;
  };

  /// Those requests that have come, up to a limit.
  int64_t Round(const Handler& handler, const Settle& settle, size_t max_round) {
    std::vector<Pending> pending;
    int64_t num_repeated = 0;
    uint64_t bytes = 0;
    std::vector<std::string> parts;
    for (size_t messages = 0; messages < kMaxRoundMessages && pending.size() < max_round && bytes < kMaxRoundBytes; ++messages) {
      if (!socket_.Receive(&parts)) break;
      const size_t handled = pending.size();
      num_repeated += Take(parts, handler, &pending);
      for (const std::string& part : parts) bytes += part.size();
      if (pending.size() > handled) bytes += pending.back().entry.answer.size();
    }
    if (!pending.empty() && settle) {
      try {
        settle();
      } catch (const Error& error) {
        for (Pending& item : pending) item.entry.answer = Encoded(ErrorAnswer(error), item.entry.incarnation, item.entry.seq);
      }
    }
    // Send's false: the client's queue is full or it is gone; it asks again if it lives.
    for (Pending& item : pending) {
      const AnswerCache::Entry& entry = cache_.Put(std::move(item.entry));
      for (const std::string& peer : item.peers) socket_.Send({peer, entry.answer});
    }
    return num_repeated + static_cast<int64_t>(pending.size());
  }

  /// Handles one request, or answers a repeated one at once; returns the number of the latter.
  int64_t Take(const std::vector<std::string>& parts, const Handler& handler, std::vector<Pending>* pending) {
    Value request;
    std::optional<uint64_t> incarnation, seq;
    try {
      if (parts.size() != 2) throw Error::Data(std::to_string(parts.size()) + " parts instead of 2");
      request = Decode(parts[1]);
      incarnation = UintAt(request.AsMap(), "incarnation");
      seq = UintAt(request.AsMap(), "seq");
      if (!incarnation || !seq) throw Error::Data("no incarnation or no seq");
    } catch (const Error& error) {
      log::WarnOnce("request " + name_, name_ + ": a request that cannot be read was ignored: " + error.message());
      return 0;
    }
    const auto first_copy = std::find_if(pending->begin(), pending->end(),
                                         [&](const Pending& item) { return item.entry.incarnation == *incarnation && item.entry.seq >= *seq; });
    if (first_copy != pending->end()) {
      // Repeated while its first copy waits: over a new connection, which the answer must take too.
      if (first_copy->entry.seq == *seq) first_copy->peers.push_back(parts[0]);
      return 0;
    }
    const AnswerCache::Entry* last = cache_.Find(*incarnation);
    if (last && *seq < last->seq) return 0;  // a late repetition of a request whose answer has arrived
    if (last && *seq == last->seq) {
      socket_.Send({parts[0], last->answer});
      return 1;
    }
    pending->push_back({{parts[0]}, {*incarnation, *seq, Handle(request.AsMap(), *incarnation, *seq, handler)}});
    return 0;
  }

  static std::string Encoded(Map answer, uint64_t incarnation, uint64_t seq) {
    Set(answer, "incarnation", incarnation);
    Set(answer, "seq", seq);
    return Encode(answer);
  }

  static std::string Handle(const Map& request, uint64_t incarnation, uint64_t seq, const Handler& handler) {
    Map answer;
    try {
      answer = handler(request);
    } catch (const Error& error) {
      answer = ErrorAnswer(error);
    } catch (const std::exception& error) {
      answer = ErrorAnswer(Error::Runtime(error.what()));
    }
    std::string bytes = Encoded(std::move(answer), incarnation, seq);
    if (bytes.size() > DecodeLimits{}.max_bytes) {
      const Error error = Error::Data("an answer of " + HumanBytes(bytes.size()) + ", more than one message may have", "ask for less at a time");
      bytes = Encoded(ErrorAnswer(error), incarnation, seq);
    }
    return bytes;
  }

  const std::string name_;
  ZmqSocket socket_;
  AnswerCache cache_;
};

}  // namespace

std::unique_ptr<RpcClient> RpcClient::Connect(const std::string& endpoint, int64_t timeout_ms) {
  return std::make_unique<Client>(endpoint, timeout_ms);
}

std::unique_ptr<RpcServer> RpcServer::Bind(const std::string& endpoint) { return std::make_unique<Server>(endpoint); }

}  // namespace april::stream
