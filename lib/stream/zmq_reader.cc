// The Reader of sockets. Its thread owns the socket: it verifies each writer's stream as it comes, grants credit as records are handed on, says that
// the reader lives, and notices when a writer does not.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "stream/framing.h"
#include "stream/open.h"
#include "stream/scanner.h"
#include "stream/zmq_messages.h"
#include "stream/zmq_socket.h"

namespace april::stream {
namespace {

/// One writer's stream.
struct Source {
  std::string route;  ///< ZeroMQ's name of the connection that it last came by
  uint64_t next_seq = 0;
  Verifier verifier;
  std::string header;
  int64_t last_heard_ms = 0;
  uint64_t credit = 0;  ///< as last told
  bool told_end = false;
  // Guarded by the reader's mutex:
  uint64_t handed_on_bytes = 0;
  bool end_handed_on = false;
};

/// What waits to be handed on: a record, or (empty) a stream's end.
struct Item {
  Source* source;
  std::string bytes;
  uint64_t counted_bytes;
};

bool SameKey(const Map& a, const Map& b, const char* key) {
  const Value* left = Find(a, key);
  const Value* right = Find(b, key);
  return !left || !right || *left == *right;
}

class ZmqReader final : public Reader {
 public:
  ZmqReader(const Endpoint& endpoint, const ReaderOptions& options)
      : options_(options),
        name_((endpoint.bind ? "@zmq+" : "zmq+") + endpoint.address),
        reader_id_(RandomId()),
        socket_(ZmqSocket::Kind::kRouter, endpoint),
        opened_ms_(NowMs()) {
    thread_ = std::thread([this] { Run(); });
    try {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !header_.empty() || failure_; });
      if (header_.empty()) std::rethrow_exception(failure_);
    } catch (...) {
      Close();
      throw;
    }
  }

  ~ZmqReader() override { Close(); }
  ZmqReader(const ZmqReader&) = delete;
  ZmqReader& operator=(const ZmqReader&) = delete;

  const std::string& header() const override { return header_; }

  std::optional<std::string_view> Next() override {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !inbox_.empty() || num_ended_ == options_.sources || failure_; });
      if (inbox_.empty()) return num_ended_ == options_.sources ? std::nullopt : Fail();
      Item item = std::move(inbox_.front());
      inbox_.pop_front();
      item.source->handed_on_bytes += item.counted_bytes;
      unreported_bytes_ += item.counted_bytes;
      const bool is_end = item.bytes.empty();
      if (is_end) {
        item.source->end_handed_on = true;
        ++num_ended_;
        status_ = std::max(status_, item.source->verifier.end_status());  // ok < stopped < error
      }
      if (is_end || unreported_bytes_ >= kCreditBytes / 4) {
        unreported_bytes_ = 0;
        socket_.Wake();
      }
      if (is_end) continue;
      ++num_records_;
      current_ = std::move(item.bytes);
      return current_;
    }
  }

  EndStatus end_status() const override { return status_; }
  std::string Position() const override { return "record " + std::to_string(num_records_) + " of " + name_; }

 private:
  std::optional<std::string_view> Fail() {
    if (!options_.allow_truncated) std::rethrow_exception(failure_);
    try {
      std::rethrow_exception(failure_);
    } catch (const Error& error) {
      log::Warn(error.message());
    }
    status_ = EndStatus::kError;
    return std::nullopt;
  }

  void Close() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    socket_.Wake();
    if (thread_.joinable()) thread_.join();
  }

  void Run() {
    std::string reason = "it ended before the stream's end";
    try {
      while (Turn()) {
      }
      SendNotes();  // acknowledges what was handed on since the last turn
    } catch (const Error& error) {
      reason = error.message();
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    changed_.notify_all();
    for (auto& [id, source] : sources_) {
      if (!source.told_end) Refuse(source.route, reason);
    }
  }

  /// One round of waiting, receiving, answering; false when the reader is closed. After the last end it goes on, for writers that missed the
  /// acknowledgement.
  bool Turn() {
    socket_.Wait(false, false, std::max<int64_t>(0, next_beat_ms_ - NowMs()));
    std::vector<std::string> parts;
    while (socket_.Receive(&parts)) TakeMessage(parts);
    SendNotes();
    CheckPeers();
    const std::lock_guard lock(mutex_);
    return !closing_;
  }

  void TakeMessage(std::vector<std::string>& parts) {
    Envelope envelope;
    try {
      if (parts.size() < 2 || parts.size() > 3) throw Error::Data(std::to_string(parts.size()) + " parts");
      envelope = DecodeEnvelope(parts[1]);
    } catch (const Error& error) {
      log::WarnOnce("envelope " + name_, name_ + ": a message that cannot be read was ignored: " + error.message());
      return;
    }
    Source* source = FindSource(envelope, parts[0]);
    if (!source) return;
    source->last_heard_ms = NowMs();
    source->route = parts[0];
    if (source->verifier.ended()) {
      source->told_end = false;  // it is still asking
      return;
    }
    if (envelope.abandoned)
      throw Error::Peer("a writer to " + name_ + " gave up after " + Came(*source), "look at the message of the program that writes");
    if (envelope.seq != source->next_seq) {
      throw Error::Peer("messages of a stream to " + name_ + " were lost: number " + std::to_string(envelope.seq) + " came instead of " +
                            std::to_string(source->next_seq),
                        "the connection broke and was made again; run again");
    }
    if (parts.size() == 3) TakeMap(source, parts[2]);
  }

  static std::string Came(const Source& source) { return std::to_string(source.verifier.num_records()) + " records"; }

  Source* FindSource(const Envelope& envelope, const std::string& route) {
    if (const auto found = sources_.find(envelope.stream); found != sources_.end()) return &found->second;
    if (envelope.abandoned) return nullptr;
    if (sources_.size() == static_cast<size_t>(options_.sources)) {
      Refuse(route, "it has its " + std::to_string(options_.sources) + " sources already; --sources sets their number");
      return nullptr;
    }
    if (envelope.seq != 0) {
      Refuse(route, "it does not have the beginning of the stream");
      throw Error::Peer(
          "a stream to " + name_ + " arrived from its message " + std::to_string(envelope.seq) + " on: its beginning went to another reader",
          "start the writer again");
    }
    return &sources_[envelope.stream];
  }

  void TakeMap(Source* source, std::string& bytes) {
    Verifier::Kind kind{};
    try {
      Scanner scanner(options_.limits);
      if (scanner.Scan(bytes) != bytes.size()) throw Error::Data("a message that is not one whole record");
      kind = source->verifier.Take(bytes);
    } catch (const Error& error) {
      throw error.Within(name_ + ", after record " + std::to_string(source->verifier.num_records()) + " of a stream");
    }
    ++source->next_seq;
    const uint64_t size = bytes.size();
    const std::lock_guard lock(mutex_);
    switch (kind) {
      case Verifier::Kind::kHeader:
        TakeHeader(source, std::move(bytes));
        break;
      case Verifier::Kind::kMark:
        source->handed_on_bytes += size;
        break;
      case Verifier::Kind::kRecord:
        inbox_.push_back({source, std::move(bytes), size});
        break;
      case Verifier::Kind::kEnd:
        inbox_.push_back({source, {}, size});
        break;
    }
    changed_.notify_all();
  }

  /// The first stream's header is the reader's; the others must have been made for the same tokens.
  void TakeHeader(Source* source, std::string bytes) {
    source->handed_on_bytes += bytes.size();
    if (header_.empty()) {
      header_ = std::move(bytes);
      return;
    }
    const Value first = Decode(header_), other = Decode(bytes);
    for (const char* key : {"tokenizer", "template", "purpose"}) {
      if (!SameKey(first.AsMap(), other.AsMap(), key)) {
        throw Error::Incompatible("two streams to " + name_ + " differ in their header's key \"" + key + "\"",
                                  "streams can be merged only when they agree in it");
      }
    }
  }

  void SendNotes() {
    const int64_t now = NowMs();
    const bool beat = now >= next_beat_ms_;
    if (beat) next_beat_ms_ = now + BeatMs(options_.peer_timeout_ms);
    for (auto& [id, source] : sources_) {
      Note note{reader_id_, 0, false, {}};
      {
        const std::lock_guard lock(mutex_);
        note.credit = source.handed_on_bytes + kCreditBytes;
        note.acknowledged = source.end_handed_on;
      }
      const bool due = source.credit == 0 || note.credit >= source.credit + kCreditBytes / 4 || (note.acknowledged && !source.told_end);
      if ((!beat && !due) || (note.acknowledged && source.told_end)) continue;
      if (!socket_.Send({source.route, EncodeNote(note)})) continue;
      source.credit = note.credit;
      source.told_end = note.acknowledged;
    }
  }

  void Refuse(const std::string& route, const std::string& reason) {
    try {
      socket_.Send({route, EncodeNote({reader_id_, 0, false, reason})});
    } catch (const Error&) {
      // The writer will notice the silence.
    }
  }

  void CheckPeers() const {
    const int64_t now = NowMs();
    const std::string time = HumanSeconds(static_cast<double>(options_.peer_timeout_ms) / 1000);
    for (const auto& [id, source] : sources_) {
      if (source.verifier.ended() || now - source.last_heard_ms <= options_.peer_timeout_ms) continue;
      throw Error::Peer("a writer to " + name_ + " has been silent for " + time + ", after " + Came(source), "it died, or the network is cut");
    }
    if (sources_.size() < static_cast<size_t>(options_.sources) && now - opened_ms_ > options_.peer_timeout_ms) {
      throw Error::Peer(
          "only " + std::to_string(sources_.size()) + " of " + std::to_string(options_.sources) + " writers came to " + name_ + " within " + time,
          "start the writers, set --sources to their number, or raise --peer-timeout-ms");
    }
  }

  const ReaderOptions options_;
  const std::string name_;
  const uint64_t reader_id_;

  ZmqSocket socket_;  // used by the thread alone, but for Wake
  const int64_t opened_ms_;
  int64_t next_beat_ms_ = 0;
  std::map<uint64_t, Source> sources_;  // elements stay where they are

  std::mutex mutex_;  ///< guards everything below, and what Source says
  std::condition_variable changed_;
  std::deque<Item> inbox_;
  std::string header_;  // set once, before the constructor returns
  int64_t num_ended_ = 0;
  bool closing_ = false;
  std::exception_ptr failure_;

  // Of the thread that calls Next.
  std::string current_;
  uint64_t num_records_ = 0, unreported_bytes_ = 0;
  EndStatus status_ = EndStatus::kOk;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Reader> OpenZmqReader(const Endpoint& endpoint, const ReaderOptions& options) {
  return std::make_unique<ZmqReader>(endpoint, options);
}

}  // namespace april::stream
