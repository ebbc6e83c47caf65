// Ranks over Gloo: its connections, its unbound buffers and the thread that serves them. Its collectives are not used: what they add up in which
// order depends on their version and on sizes, and they cannot be interrupted when a rank elsewhere is lost.
#include "ranks/gloo_ranks.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "ranks/ordered_sum.h"

namespace april::ranks {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kWhileAlive = std::chrono::hours(24 * 365);
constexpr size_t kPieceBytes = 4u << 20;  ///< of one message: what a sum keeps of each other rank

/// Where Gloo finds the other ranks' sockets.
class WatchStore final : public gloo::rendezvous::Store {
 public:
  explicit WatchStore(Watch& watch) : watch_(watch) {}
  void set(const std::string& key, const std::vector<char>& data) override { watch_.Put(key, std::string(data.begin(), data.end())); }
  std::vector<char> get(const std::string& key) override {
    const std::string value = watch_.Get(key);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) watch_.Get(key);
  }

 private:
  Watch& watch_;
};

class GlooRanks final : public Ranks {
 public:
  GlooRanks(const Place& place, std::unique_ptr<Watch> watch) : Ranks(place.rank, place.size), limit_(place.patience_ms), watch_(std::move(watch)) {
    try {
      gloo::transport::tcp::attr attributes(watch_->local_address().c_str());
      auto device = gloo::transport::tcp::CreateDevice(attributes);
      auto context = std::make_shared<gloo::rendezvous::Context>(rank(), size());
      context->setTimeout(milliseconds(JoinLimitMs(place)));
      WatchStore store(*watch_);
      context->connectFullMesh(store, device);
      context_ = std::move(context);
    } catch (const Error&) {  // the watch's own
      throw;
    } catch (const std::exception& error) {
      throw watch_->Report({rank(), std::string("it cannot connect to the other ranks: ") + error.what()});
    }
    watch_->OnLost([this] { Wake(); });
  }
  ~GlooRanks() override {
    watch_->OnLost(nullptr);
    watch_.reset();  // first the reason, then the connections
  }

  void Move(std::span<const Transfer> transfers, Patience patience) override;
  void Add(std::span<const Reduction> reductions) override;
  void Finish() override { watch_->Finish(); }

 private:
  using Buffer = std::unique_ptr<gloo::transport::UnboundBuffer>;
  /// A message on its way.
  struct Message {
    Buffer buffer;
    int peer = 0;
    bool sends = false;
  };

  Message Send(int to, uint64_t slot, const void* data, size_t num_bytes);
  Message Receive(int from, uint64_t slot, void* data, size_t num_bytes);
  /// While it lives, Wake interrupts the wait for that buffer.
  class Waiting;
  void Wait(const Message& message, milliseconds limit);
  void Wake();
  template <typename Action>
  auto Guard(int peer, Action&& action);

  const milliseconds limit_;  ///< for a rank that lives
  std::shared_ptr<gloo::Context> context_;
  std::unique_ptr<Watch> watch_;
  uint64_t next_slot_ = 0;  ///< one number a message, the same on all ranks
  std::mutex mutex_;
  gloo::transport::UnboundBuffer* waiting_ = nullptr;
};

/// Gloo's failed checks are no gloo::Exception.
std::string Closed(const std::exception& error) { return std::string("its connection closed (") + error.what() + ")"; }

/// What Gloo throws becomes the loss of that peer.
template <typename Action>
auto GlooRanks::Guard(int peer, Action&& action) {
  try {
    return action();
  } catch (const std::exception& error) {
    throw watch_->Report({peer, Closed(error)});
  }
}

GlooRanks::Message GlooRanks::Send(int to, uint64_t slot, const void* data, size_t num_bytes) {
  return Guard(to, [&] {
    Message message{context_->createUnboundBuffer(const_cast<void*>(data), num_bytes), to, true};
    message.buffer->send(to, slot);
    return message;
  });
}

GlooRanks::Message GlooRanks::Receive(int from, uint64_t slot, void* data, size_t num_bytes) {
  return Guard(from, [&] {
    Message message{context_->createUnboundBuffer(data, num_bytes), from, false};
    message.buffer->recv(from, slot);
    return message;
  });
}

class GlooRanks::Waiting {
 public:
  Waiting(GlooRanks& ranks, gloo::transport::UnboundBuffer* buffer) : ranks_(ranks) { Set(buffer); }
  ~Waiting() { Set(nullptr); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  void Set(gloo::transport::UnboundBuffer* buffer) {
    const std::lock_guard lock(ranks_.mutex_);
    ranks_.waiting_ = buffer;
  }
  GlooRanks& ranks_;
};

void GlooRanks::Wait(const Message& message, milliseconds limit) {
  const auto begin = std::chrono::steady_clock::now();
  std::string why = "its connection closed";
  {
    const Waiting waiting(*this, message.buffer.get());
    if (!watch_->lost()) {  // what is lost from here on wakes the wait
      try {
        if (message.sends ? message.buffer->waitSend(limit) : message.buffer->waitRecv(limit)) return;
      } catch (const std::exception& error) {
        why = Closed(error);
      }
    }
  }
  if (const auto lost = watch_->lost()) throw watch_->Report(*lost);
  const bool late = std::chrono::steady_clock::now() - begin >= limit;
  const std::string waited = HumanSeconds(static_cast<double>(limit.count()) / 1000);
  throw watch_->Report({message.peer, late ? "it lives, and did not come within " + waited : why});
}

void GlooRanks::Wake() {
  const std::lock_guard lock(mutex_);
  if (waiting_ == nullptr) return;
  waiting_->abortWaitRecv();
  waiting_->abortWaitSend();
}

void GlooRanks::Move(std::span<const Transfer> transfers, Patience patience) {
  std::vector<Message> messages;
  for (const Transfer& transfer : transfers) {
    for (size_t begin = 0; begin < transfer.num_bytes; begin += kPieceBytes) {
      const auto data = [&] { return static_cast<char*>(transfer.data) + begin; };  // the ranks between may have none
      const size_t num_bytes = std::min(kPieceBytes, transfer.num_bytes - begin);
      const uint64_t slot = next_slot_++;
      if (transfer.from == rank()) {
        for (int to = 0; to < size(); ++to) {
          if (to != rank() && (transfer.to == kEveryOther || transfer.to == to)) messages.push_back(Send(to, slot, data(), num_bytes));
        }
      } else if (transfer.to == kEveryOther || transfer.to == rank()) {
        messages.push_back(Receive(transfer.from, slot, data(), num_bytes));
      }
    }
  }
  for (const Message& message : messages) Wait(message, patience == Patience::kWhileAlive ? kWhileAlive : limit_);
}

void GlooRanks::Add(std::span<const Reduction> reductions) {
  struct Piece {
    float* values;
    size_t count;
    uint64_t slot;
  };
  constexpr size_t kCount = kPieceBytes / sizeof(float);
  std::vector<Piece> own;
  std::vector<Message> sent;
  for (const Reduction& reduction : reductions) {
    for (size_t begin = 0; begin < reduction.values.size(); begin += kCount) {
      const Piece piece{reduction.values.data() + begin, std::min(kCount, reduction.values.size() - begin), next_slot_++};
      if (reduction.owner == rank()) {
        own.push_back(piece);
      } else {
        sent.push_back(Send(reduction.owner, piece.slot, piece.values, piece.count * sizeof(float)));
      }
    }
  }
  // One piece is added up while the next one comes.
  const auto num_ranks = static_cast<size_t>(size()), self = static_cast<size_t>(rank());
  std::vector<std::vector<float>> arrays[2];
  std::vector<const float*> addends[2];
  std::vector<Message> coming[2];
  for (size_t set = 0; set < 2; ++set) {
    arrays[set].assign(num_ranks, std::vector<float>(own.empty() ? 0 : kCount));
    for (const auto& array : arrays[set]) addends[set].push_back(array.data());
  }
  const auto receive = [&](size_t index) {
    coming[index % 2].clear();
    for (size_t from = 0; from < num_ranks; ++from) {
      if (from == self) continue;
      const Piece& piece = own[index];
      coming[index % 2].push_back(Receive(static_cast<int>(from), piece.slot, arrays[index % 2][from].data(), piece.count * sizeof(float)));
    }
  };
  if (!own.empty()) receive(0);
  for (size_t index = 0; index < own.size(); ++index) {
    if (index + 1 < own.size()) receive(index + 1);
    for (const Message& message : coming[index % 2]) Wait(message, limit_);
    AddInOrder(self, addends[index % 2], {own[index].values, own[index].count});
  }
  for (const Message& message : sent) Wait(message, limit_);
}

}  // namespace

std::unique_ptr<Ranks> ConnectGloo(const Place& place, std::unique_ptr<Watch> watch) { return std::make_unique<GlooRanks>(place, std::move(watch)); }

}  // namespace april::ranks
