// The Writer of sockets. Its thread owns the socket: it sends as the reader's credit allows, says that the writer lives, and notices when the reader
// does not.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "stream/framing.h"
#include "stream/open.h"
#include "stream/zmq_messages.h"
#include "stream/zmq_socket.h"

namespace april::stream {
namespace {

constexpr uint64_t kOutboxBytes = 8 << 20;
constexpr int64_t kLastChanceMs = 1000;

class ZmqWriter final : public Writer {
 public:
  ZmqWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options)
      : options_(options),
        name_((endpoint.bind ? "@zmq+" : "zmq+") + endpoint.address),
        stream_(RandomId()),
        socket_(ZmqSocket::Kind::kDealer, endpoint),
        framer_(header) {
    Push(std::string(header));
    thread_ = std::thread([this] { Run(); });
  }

  ~ZmqWriter() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    socket_.Wake();
    thread_.join();
  }
  ZmqWriter(const ZmqWriter&) = delete;
  ZmqWriter& operator=(const ZmqWriter&) = delete;

  void Write(std::string_view record) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return failure_ || outbox_bytes_ < kOutboxBytes; });
    CheckUsable();
    framer_.Add(record);
    Push(std::string(record));
    bytes_since_mark_ += record.size();
    if (bytes_since_mark_ >= options_.mark_bytes) PushMark();
    socket_.Wake();
  }

  void Flush() override {
    const std::lock_guard lock(mutex_);
    CheckUsable();
  }

  void Finish(EndStatus status) override {
    std::unique_lock lock(mutex_);
    CheckUsable();
    finished_ = true;
    Push(framer_.End(status));
    socket_.Wake();
    changed_.wait(lock, [this] { return failure_ || acknowledged_; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void CheckUsable() {
    if (failure_) std::rethrow_exception(failure_);
    if (finished_) throw Error::Runtime("a record is written after the end of its stream");
  }

  void Push(std::string bytes) {
    outbox_bytes_ += bytes.size();
    outbox_.push_back(std::move(bytes));
  }

  void PushMark() {
    Push(framer_.Mark());
    bytes_since_mark_ = 0;
    last_mark_ms_ = NowMs();
  }

  void Run() {
    try {
      while (Turn()) {
      }
      if (!acknowledged_) Abandon();
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
      }
      changed_.notify_all();
      Abandon();
    }
    changed_.notify_all();
  }

  /// Spares the reader the wait for its time limit, also one that has not seen the stream's beginning.
  void Abandon() {
    try {
      if (next_seq_ == 0) {
        const int64_t deadline = NowMs() + kLastChanceMs;
        while (next_seq_ == 0 && NowMs() < deadline) {
          socket_.Wait(true, false, deadline - NowMs());
          SendSome();
        }
      }
      socket_.Send({EncodeEnvelope({stream_, next_seq_, true})});
    } catch (const Error&) {
    }
  }

  /// One round of waiting, receiving, sending; false when the thread is done.
  bool Turn() {
    bool wants_write = false;
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || acknowledged_) return false;
      wants_write = MaySend() || NowMs() >= next_beat_ms_;
    }
    const auto ready = socket_.Wait(wants_write, false, next_beat_ms_ - NowMs() > 0 ? next_beat_ms_ - NowMs() : BeatMs(options_.peer_timeout_ms));
    if (ready.readable) TakeNotes();
    SendSome();
    CheckPeer();
    return true;
  }

  /// The header goes out unasked; everything else needs credit, by which a record may be larger than what is left of it.
  bool MaySend() const { return !outbox_.empty() && (next_seq_ == 0 || sent_bytes_ < credit_); }

  void TakeNotes() {
    std::vector<std::string> parts;
    while (socket_.Receive(&parts)) {
      Note note;
      try {
        note = DecodeNote(parts.at(0));
      } catch (const Error& error) {
        log::WarnOnce("note " + name_, name_ + ": a message that cannot be read was ignored: " + error.message());
        continue;
      }
      if (reader_ != 0 && note.reader != reader_) {
        throw Error::Peer("another reader connected to " + name_ + " in the middle of the stream",
                          "a stream has one reader: stop the other one, then run again");
      }
      reader_ = note.reader;
      last_heard_ms_ = NowMs();
      if (!note.refused.empty()) throw Error::Peer("the reader at " + name_ + " takes nothing more: " + note.refused, "look at the reader's message");
      const std::lock_guard lock(mutex_);
      credit_ = std::max(credit_, note.credit);
      if (note.acknowledged && finished_ && outbox_.empty()) acknowledged_ = true;
    }
  }

  void SendSome() {
    std::unique_lock lock(mutex_);
    const int64_t now = NowMs();
    if (!finished_ && outbox_.empty() && now - last_mark_ms_ >= options_.mark_interval_ms) PushMark();
    bool sent = false;
    while (MaySend() && socket_.Send({EncodeEnvelope({stream_, next_seq_, false}), outbox_.front()})) {
      sent_bytes_ += outbox_.front().size();
      outbox_bytes_ -= outbox_.front().size();
      outbox_.pop_front();
      ++next_seq_;
      sent = true;
    }
    if (sent) changed_.notify_all();
    lock.unlock();
    if (!sent && now >= next_beat_ms_ && next_seq_ > 0) sent = socket_.Send({EncodeEnvelope({stream_, next_seq_, false})});
    if (sent || now >= next_beat_ms_) next_beat_ms_ = now + BeatMs(options_.peer_timeout_ms);
  }

  void CheckPeer() const {
    if (NowMs() - last_heard_ms_ <= options_.peer_timeout_ms) return;
    const std::string time = HumanSeconds(static_cast<double>(options_.peer_timeout_ms) / 1000);
    if (reader_ == 0) throw Error::Peer("no reader at " + name_ + " within " + time, "start the reader, or raise --peer-timeout-ms");
    throw Error::Peer("the reader at " + name_ + " has been silent for " + time,
                      "it died, or the network is cut; what it had not acknowledged is lost to it");
  }

  const WriterOptions options_;
  const std::string name_;
  const uint64_t stream_;

  ZmqSocket socket_;  // used by the thread alone, but for Wake
  uint64_t reader_ = 0;
  int64_t last_heard_ms_ = NowMs();
  int64_t next_beat_ms_ = NowMs() + BeatMs(options_.peer_timeout_ms);
  uint64_t next_seq_ = 0, sent_bytes_ = 0;

  std::mutex mutex_;  ///< guards everything below
  std::condition_variable changed_;
  Framer framer_;
  std::deque<std::string> outbox_;
  uint64_t outbox_bytes_ = 0, credit_ = 0, bytes_since_mark_ = 0;
  int64_t last_mark_ms_ = NowMs();
  bool finished_ = false, acknowledged_ = false, closing_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Writer> OpenZmqWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options) {
  return std::make_unique<ZmqWriter>(endpoint, header, options);
}

}  // namespace april::stream
