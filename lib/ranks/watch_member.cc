#include <algorithm>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "ranks/watch.h"
#include "stream/rpc.h"
#include "stream/zmq_socket.h"

namespace april::ranks {
namespace {

using stream::Map;
using stream::NowMs;

constexpr int64_t kPollMs = 20;         // while there is something to wait for
constexpr int64_t kBeatMs = 1'000;      // while there is nothing
constexpr int64_t kPartingMs = 2'000;   // for rank 0 to learn why this rank ends
constexpr int64_t kJoinCallMs = 5'000;  // then it says that it waits, and asks again
constexpr int64_t kBeatCallMs = 1'000;

void Sleep(int64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

class Member final : public Watch {
 public:
  Member(const Place& place, const Work& work)
      : Watch(place),
        endpoint_("zmq+tcp://" + place.host + ":" + std::to_string(place.port)),
        talk_(stream::RpcClient::Connect(endpoint_, kJoinCallMs)) {
    local_address_ = LocalAddressToward(place.host);
    Join(work);
    thread_ = std::thread([this] { Run(); });
  }

  ~Member() override {
    {
      std::unique_lock lock(mutex_);
      if (!finished_ && !lost_) {  // otherwise rank 0 knows, or is itself gone
        report_ = Lost{place_.rank, "it failed"};
        changed_.notify_all();
        changed_.wait_for(lock, std::chrono::milliseconds(kPartingMs), [&] { return reported_; });
      }
      ending_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  void Put(const std::string& key, std::string value) override {
    talk_->Call(Request("put", {{"key", key}, {"value", stream::Bin{std::move(value)}}}));
  }

  std::string Get(const std::string& key) override {
    for (const int64_t deadline = NowMs() + JoinLimitMs(place_); NowMs() < deadline; Sleep(kPollMs)) {
      {
        const std::lock_guard lock(mutex_);
        if (lost_) throw LostError();
      }
      const Map answer = talk_->Call(Request("get", {{"key", key}}));
      if (const stream::Value* value = stream::Find(answer, "value")) return value->AsBin();
    }
    throw Error::Peer("no rank told '" + key + "' while the ranks connected");
  }

  Error Report(Lost seen) override {
    std::unique_lock lock(mutex_);
    report_ = seen;
    changed_.notify_all();
    // Rank 0 knows who was lost first. If that is itself, nobody answers.
    changed_.wait_for(lock, std::chrono::milliseconds(kPartingMs), [&] { return lost_.has_value(); });
    SetLost(std::move(seen));
    return LostError();
  }

  void Finish() override {
    std::unique_lock lock(mutex_);
    done_ = true;
    changed_.notify_all();
    if (!changed_.wait_for(lock, std::chrono::milliseconds(place_.patience_ms), [&] { return over_ || lost_; })) {
      const Lost late = NotFinished(waits_for_);
      lock.unlock();
      throw Report(late);
    }
    if (!over_) throw LostError();
    finished_ = true;
  }

 private:
  Map Request(const char* kind, Map values) const {
    Map request = {{"kind", kind}, {"rank", static_cast<int64_t>(place_.rank)}, {"size", static_cast<int64_t>(place_.size)}};
    for (auto& value : values) request.push_back(std::move(value));
    return request;
  }

  void Join(const Work& work) {
    Map entries;
    for (const auto& [name, value] : work) entries.emplace_back(name, value);
    const Map request =
        Request("join", {{"process", RandomId()}, {"name", ProcessName()}, {"address", local_address_}, {"work", std::move(entries)}});
    const int64_t begin = NowMs();
    std::string waits_for = "rank 0 at " + endpoint_;
    for (bool told = false;; Sleep(kPollMs)) {
      if (StopRequested()) throw Error::Stopped("stopped while waiting for " + waits_for);
      const int64_t waited = NowMs() - begin;
      if (waited > JoinLimitMs(place_)) {
        throw Error::Peer(waits_for + " did not come within " + HumanSeconds(static_cast<double>(waited) / 1000),
                          "start every rank; rank 0 listens at MASTER_ADDR and MASTER_PORT, or at --rank-address");
      }
      if (waited > kJoinCallMs && !std::exchange(told, true)) log::Info("waits for " + waits_for);
      Map answer;
      try {
        answer = talk_->Call(request);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kPeer) throw;
        continue;  // rank 0 is not there yet
      }
      if (const stream::Value* refused = stream::Find(answer, "refused")) {
        const auto kind = refused->AsInt() == static_cast<int64_t>(ErrorKind::kIncompatible) ? ErrorKind::kIncompatible : ErrorKind::kPeer;
        throw Error(kind, Need(answer, "message").AsString(), Need(answer, "hint").AsString());
      }
      if (const stream::Value* names = stream::Find(answer, "names")) {
        for (const stream::Value& name : names->AsArray()) names_.push_back(name.AsString());
        // Who reaches rank 0 by loopback is on its machine, and the ranks on others have to reach both.
        if (local_address_.starts_with("127.")) local_address_ = Need(answer, "address").AsString();
        return;
      }
      waits_for = Need(answer, "waits_for").AsString();
    }
  }

  /// What rank 0 answers to a beat.
  struct News {
    std::optional<Lost> lost;
    bool over = false;
    int waits_for = 0;  ///< a rank that has not come to the end
  };
  News Read(const Map& answer) const {
    News news{LostIn(answer)};
    if (!news.lost) news.over = Need(answer, "over").AsBool();
    if (const stream::Value* rank = stream::Find(answer, "waits_for")) news.waits_for = RankIn(*rank);
    return news;
  }

  void Run() {
    const auto client = stream::RpcClient::Connect(endpoint_, kBeatCallMs);
    const int64_t beat_ms = std::min(kBeatMs, place_.timeout_ms / 4);
    int64_t heard_ms = NowMs();
    std::unique_lock lock(mutex_);
    while (!ending_) {
      const bool reports = report_.has_value(), done = done_;
      Map request = Request("beat", {{"done", done}});
      if (reports) request.insert(request.end(), {{"lost", static_cast<int64_t>(report_->rank)}, {"why", report_->why}});
      lock.unlock();
      std::optional<News> news;
      try {
        news = Read(client->Call(std::move(request)));
      } catch (const Error&) {  // silence, or nothing that rank 0 would say: it counts below
      }
      lock.lock();
      if (news) {
        heard_ms = NowMs();
        reported_ = reports;
        if (news->lost) SetLost(std::move(*news->lost));
        over_ = news->over;
        waits_for_ = news->waits_for;
      } else if (const int64_t silence = NowMs() - heard_ms; silence > place_.timeout_ms) {
        SetLost({0, "nothing was heard of it for " + HumanSeconds(static_cast<double>(silence) / 1000)});
      }
      changed_.notify_all();
      changed_.wait_for(lock, std::chrono::milliseconds(done && !over_ ? kPollMs : beat_ms),
                        [&] { return ending_ || (report_ && !reported_) || done_ != done; });
    }
  }

  const std::string endpoint_;
  std::unique_ptr<stream::RpcClient> talk_;  ///< of the thread that works
  std::optional<Lost> report_;
  bool reported_ = false, done_ = false, over_ = false, finished_ = false, ending_ = false;
  int waits_for_ = 0;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Watch> StartMember(const Place& place, Work work) { return std::make_unique<Member>(place, work); }

}  // namespace april::ranks
