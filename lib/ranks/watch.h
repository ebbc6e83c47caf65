// Who is there, and who is lost. Rank 0 keeps the account and the others ask it, once a second, on a thread and a socket of their own: so a rank that
// computes for long is heard, and all ranks name the same one when one is lost.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "ranks/place.h"
#include "ranks/ranks.h"
#include "stream/value.h"

namespace april::ranks {

struct Lost {
  int rank = 0;
  std::string why;  ///< "its connection closed"
};

class Watch {
 public:
  /// Waits until all ranks are there. Throws as Ranks::Join does, Stopped when a stop is requested meanwhile.
  static std::unique_ptr<Watch> Start(const Place& place, Work work);
  /// Without Finish before it, the others learn that this rank fails.
  virtual ~Watch() = default;

  const std::string& local_address() const { return local_address_; }  ///< numeric, by which the other ranks reach this machine

  /// What ranks tell each other by name, before they are connected. Get waits until it is there; throws Peer.
  virtual void Put(const std::string& key, std::string value) = 0;
  virtual std::string Get(const std::string& key) = 0;

  /// `wake` is called from the watching thread once a rank is lost, or at once when one is already.
  void OnLost(std::function<void()> wake);
  std::optional<Lost> lost();
  /// A loss that this rank has seen. Returns the error to throw: about the rank that was lost first, as all ranks see it.
  virtual Error Report(Lost seen) = 0;
  /// Waits until every rank has called it, as long as Place::patience_ms. Throws Peer, naming one that has not.
  virtual void Finish() = 0;

 protected:
  explicit Watch(const Place& place) : place_(place) {}
  /// The first loss stays. With mutex_ held, as LostError.
  void SetLost(Lost lost);
  Error LostError() const;
  /// One that lives, and that Finish waited for in vain.
  Lost NotFinished(int rank) const;
  /// "rank 1 (node7, process 4711)"
  std::string Name(int rank) const;
  /// A rank that a message names. Throws Data when there is none of that number.
  int RankIn(const stream::Value& value) const;
  /// The loss that a message tells of; nullopt when it tells of none. Throws Data.
  std::optional<Lost> LostIn(const stream::Map& message) const;

  const Place place_;
  std::string local_address_;
  std::vector<std::string> names_;  ///< "node7, process 4711", by rank
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Lost> lost_;
  std::function<void()> wake_;
};

/// Rank 0's, and the others'.
std::unique_ptr<Watch> StartHub(const Place& place, Work work);
std::unique_ptr<Watch> StartMember(const Place& place, Work work);

/// A value that a message between ranks must have. Throws Data.
const stream::Value& Need(const stream::Map& message, const char* key);

/// How long ranks wait for each other to come.
int64_t JoinLimitMs(const Place& place);
/// The address of the interface by which this machine reaches `host`. Throws Runtime when the name means nothing here.
std::string LocalAddressToward(const std::string& host);
/// "node7, process 4711": this process.
std::string ProcessName();

}  // namespace april::ranks
