#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/signals.h"
#include "ranks/watch.h"
#include "stream/rpc.h"
#include "stream/zmq_socket.h"

namespace april::ranks {
namespace {

using stream::Map;
using stream::NowMs;

constexpr int64_t kTickMs = 50;         // between looks at who is silent
constexpr int64_t kFarewellMs = 3'000;  // for the others to learn why this rank ends; they ask once a second
constexpr int64_t kFirstMessageMs = 5'000;

std::string Seconds(int64_t ms) { return HumanSeconds(static_cast<double>(ms) / 1000); }

class Hub final : public Watch {
 public:
  Hub(const Place& place, Work work) : Watch(place), members_(static_cast<size_t>(place.size)) {
    const bool local = place.host == "localhost" || place.host == "127.0.0.1";
    server_ = stream::RpcServer::Bind("zmq+tcp://" + (local ? place.host : "*") + ":" + std::to_string(place.port));
    members_[0] = {true, false, false, 0, 0, ProcessName(), "", std::move(work)};
    thread_ = std::thread([this] { Run(); });
  }

  ~Hub() override {
    Farewell();
    ending_ = true;
    thread_.join();
  }

  /// Until all are there, and of one mind.
  void Gather() {
    const int64_t begin = NowMs();
    int64_t next_message = kFirstMessageMs;
    std::unique_lock lock(mutex_);
    while (NumJoined() < members_.size()) {
      changed_.wait_for(lock, std::chrono::milliseconds(kTickMs));
      ForgetSilent();
      const int64_t waited = NowMs() - begin;
      if (StopRequested()) throw Error::Stopped("stopped while waiting for " + Missing());
      if (waited > JoinLimitMs(place_)) Refuse(Error::Peer(Missing() + " did not come within " + Seconds(waited), "start every rank"));
      if (waited > next_message) {
        log::Info("waits for " + Missing());
        next_message *= 4;
      }
    }
    Compare();
    for (const Member& member : members_) names_.push_back(member.name);
    const auto elsewhere = std::find_if(members_.begin() + 1, members_.end(), [](const Member& m) { return !m.address.starts_with("127."); });
    local_address_ = LocalAddressToward(elsewhere == members_.end() ? members_.back().address : elsewhere->address);
    for (Member& member : members_) member.heard_ms = NowMs();
    ready_ = true;
  }

  void Put(const std::string& key, std::string value) override {
    const std::lock_guard lock(mutex_);
    told_[key] = std::move(value);
    changed_.notify_all();
  }

  std::string Get(const std::string& key) override {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::milliseconds(JoinLimitMs(place_)), [&] { return told_.contains(key) || lost_; })) {
      throw Error::Peer("no rank told '" + key + "' while the ranks connected");
    }
    if (!told_.contains(key)) throw LostError();
    return told_[key];
  }

  Error Report(Lost seen) override {
    const std::lock_guard lock(mutex_);
    SetLost(std::move(seen));
    return LostError();
  }

  void Finish() override {
    std::unique_lock lock(mutex_);
    members_[0].done = true;
    const bool ended = changed_.wait_for(lock, std::chrono::milliseconds(place_.patience_ms), [&] { return lost_ || AllDone(); });
    if (!ended) SetLost(NotFinished(FirstNotDone()));
    if (lost_) throw LostError();
    finished_ = true;
  }

 private:
  struct Member {
    bool joined = false, done = false;
    bool knows = false;  ///< that all is over, well or not
    uint64_t process = 0;
    int64_t heard_ms = 0;
    std::string name, address;
    Work work;
  };

  size_t NumJoined() const {
    return static_cast<size_t>(std::count_if(members_.begin(), members_.end(), [](const Member& m) { return m.joined; }));
  }
  /// The number of ranks when all are done.
  int FirstNotDone() const {
    return static_cast<int>(std::find_if(members_.begin(), members_.end(), [](const Member& m) { return !m.done; }) - members_.begin());
  }
  bool AllDone() const { return FirstNotDone() == place_.size; }

  /// Whoever joined and ended before all were there may come again: who still waits asks every few milliseconds.
  void ForgetSilent() {
    for (size_t rank = 1; rank < members_.size(); ++rank) {
      Member& member = members_[rank];
      if (!member.joined || NowMs() - member.heard_ms <= place_.timeout_ms) continue;
      log::Info("rank " + std::to_string(rank) + " (" + member.name + ") is silent for " + Seconds(place_.timeout_ms) + ": it must come again");
      member = {};
    }
  }

  std::string Missing() const {
    std::string text;
    for (size_t rank = 0; rank < members_.size(); ++rank) {
      if (!members_[rank].joined) text += (text.empty() ? "rank " : ", ") + std::to_string(rank);
    }
    return text + " of " + std::to_string(place_.size);
  }

  [[noreturn]] void Refuse(Error error) {
    refusal_ = error;
    throw error;
  }

  void Compare() {
    for (size_t rank = 1; rank < members_.size(); ++rank) {
      for (const auto& [name, first] : members_[0].work) {
        const auto found = members_[rank].work.find(name);
        const std::string other = found == members_[rank].work.end() ? "nothing" : found->second;
        if (other == first) continue;
        Refuse(Error::Incompatible("the ranks disagree on " + name + ": rank 0 (" + members_[0].name + ") has " + first + ", rank " +
                                       std::to_string(rank) + " (" + members_[rank].name + ") has " + other,
                                   "start all ranks with the same program and the same options"));
      }
    }
  }

  void Run() {
    while (!ending_) {
      server_->Serve([this](const Map& request) { return Answer(request); }, kTickMs);
      FindSilent();
    }
  }

  void FindSilent() {
    const std::lock_guard lock(mutex_);
    if (!ready_ || finished_) return;
    for (size_t rank = 1; rank < members_.size(); ++rank) {
      const int64_t silence = NowMs() - members_[rank].heard_ms;
      if (members_[rank].done || silence <= place_.timeout_ms) continue;
      SetLost({static_cast<int>(rank), "nothing was heard of it for " + Seconds(silence)});
    }
  }

  /// What is thrown becomes the answer. A request changes something only after all that it must have was seen.
  Map Answer(const Map& request) {
    const std::string& kind = Need(request, "kind").AsString();
    const int64_t rank = Need(request, "rank").AsInt(), size = Need(request, "size").AsInt();
    if (size != place_.size || rank < 1 || rank >= size) {
      throw Error::Incompatible("the ranks disagree on their number: rank 0 is one of " + std::to_string(place_.size) +
                                ", and a process came as rank " + std::to_string(rank) + " of " + std::to_string(size));
    }
    if (kind == "put") {
      Put(Need(request, "key").AsString(), Need(request, "value").AsBin());
      return {};
    }
    const std::lock_guard lock(mutex_);
    if (kind == "get") {
      const auto found = told_.find(Need(request, "key").AsString());
      return found == told_.end() ? Map{} : Map{{"value", stream::Bin{found->second}}};
    }
    Member& member = members_[static_cast<size_t>(rank)];
    if (kind == "join") return Join(request, &member);
    if (kind == "beat") return Beat(request, &member);
    throw Error::Data("a rank asks for '" + kind + "', which is nothing");
  }

  Map Beat(const Map& request, Member* member) {
    const bool done = Need(request, "done").AsBool();
    auto lost = LostIn(request);
    if (!member->joined) throw Error::Data("rank " + std::to_string(member - members_.data()) + " did not join");
    member->heard_ms = NowMs();
    if (lost) SetLost(std::move(*lost));
    member->done = member->done || done;
    changed_.notify_all();
    member->knows = lost_ || AllDone();
    if (lost_) return {{"lost", static_cast<int64_t>(lost_->rank)}, {"why", lost_->why}};
    if (AllDone()) return {{"over", true}};
    return {{"over", false}, {"waits_for", static_cast<int64_t>(FirstNotDone())}};
  }

  Map Join(const Map& request, Member* member) {
    Member comer{
        true, false, false, Need(request, "process").AsUint(), NowMs(), Need(request, "name").AsString(), Need(request, "address").AsString(), {}};
    for (const auto& [name, value] : Need(request, "work").AsMap()) comer.work[name] = value.AsString();
    if (member->joined && member->process != comer.process) {
      throw Error::Usage("rank " + std::to_string(member - members_.data()) + " is there already (" + member->name + ")",
                         "each process needs a rank of its own; that of one that ended is free " + Seconds(place_.timeout_ms) + " later");
    }
    if (!member->joined) {
      *member = std::move(comer);
      changed_.notify_all();
    }
    member->heard_ms = NowMs();
    member->knows = refusal_ || lost_;
    if (member->knows) {
      const Error error = refusal_.value_or(Error::Peer("rank 0 gave up waiting for the others", "its own messages say why"));
      return {{"refused", static_cast<int64_t>(error.kind())}, {"message", error.message()}, {"hint", error.hint()}};
    }
    if (!ready_) return {{"waits_for", Missing()}};
    stream::Array names;
    for (const std::string& name : names_) names.emplace_back(name);
    return {{"names", std::move(names)}, {"address", local_address_}};
  }

  /// The others learn by asking.
  void Farewell() {
    std::unique_lock lock(mutex_);
    if (!finished_) SetLost({0, "it failed"});
    const auto everyone = [&] {
      for (size_t rank = 1; rank < members_.size(); ++rank) {
        if (members_[rank].joined && !members_[rank].knows && !(lost_ && lost_->rank == static_cast<int>(rank))) return false;
      }
      return true;
    };
    for (const int64_t begin = NowMs(); !everyone() && NowMs() - begin < kFarewellMs;) changed_.wait_for(lock, std::chrono::milliseconds(kTickMs));
  }

  std::vector<Member> members_;  ///< by rank
  std::map<std::string, std::string> told_;
  bool ready_ = false, finished_ = false;
  std::optional<Error> refusal_;
  std::unique_ptr<stream::RpcServer> server_;  ///< of the thread, once it runs
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Watch> StartHub(const Place& place, Work work) {
  auto hub = std::make_unique<Hub>(place, std::move(work));
  hub->Gather();
  return hub;
}

}  // namespace april::ranks
