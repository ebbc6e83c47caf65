// A rank behind the first: holds its shard of the optimiser's state and all of the policy, and does what rank 0 says. It reads and writes no file.
#pragma once

#include <memory>
#include <string>

#include "grpo/session.h"
#include "ranks/place.h"
#include "ranks/ranks.h"

namespace april::grpo {

/// What all ranks must have in common: program, kernel set and every option that the result depends on.
ranks::Work WorkOf(const SessionOptions& options);

/// This process's rank by options and variables, connected with the others; Ranks::Alone without any. Throws as FindPlace and Ranks::Join do.
std::shared_ptr<ranks::Ranks> JoinRanks(const ranks::RankOptions& options, const SessionOptions& session);

class Follower {
 public:
  /// Receives the weights that rank 0's Session starts with. Throws Peer, and Usage as a session does.
  Follower(const SessionOptions& options, int num_threads, ranks::Ranks& ranks);
  ~Follower();
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  /// Follows one order; false after the last one. Throws Peer.
  bool Next();
  bool stopped() const;      ///< whether the last order came by a signal
  std::string Text() const;  ///< "3 steps as rank 1 of 2"

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace april::grpo
