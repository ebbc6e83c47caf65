// The processes that train together, and what they exchange. Whoever trains alone goes the same way, and nothing moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "ranks/place.h"

namespace april::ranks {

inline constexpr int kEveryOther = -1;

/// Bytes that go from one rank to another or to every other one. `data` is where they are at `from` and where they come to at `to`; not looked at by
/// the ranks between.
struct Transfer {
  int from = 0, to = kEveryOther;
  void* data = nullptr;
  size_t num_bytes = 0;
};

/// An array that every rank has; its owner gets the sum.
struct Reduction {
  int owner = 0;
  std::span<float> values;
};

/// What a rank's work rests on, by name: all ranks must have the same.
using Work = std::map<std::string, std::string>;

/// Every rank calls the same functions in the same order with the same sizes. What is lost with a rank (it ended, it is silent, it does not come)
/// makes each function throw Peer, naming the rank, and what was to be exchanged is of no use then.
///   Time    A rank that ended is noticed at the next exchange with it, a silent one after Place::timeout_ms, one that lives and does not come after
///           Place::patience_ms, half an hour unless an option says another.
///   Thread  one at a time.
class Ranks {
 public:
  /// One rank: nothing is exchanged, no thread or socket is made.
  static std::unique_ptr<Ranks> Alone();
  /// Waits until all ranks are there and connected. Throws Incompatible on all of them, naming rank and entry, when their work differs; Peer naming
  /// those that did not come.
  static std::unique_ptr<Ranks> Join(const Place& place, Work work);
  /// Without Finish before it, the other ranks are told that this one fails.
  virtual ~Ranks() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool IsFirst() const { return rank_ == 0; }

  /// Whether the next bytes may take as long as they like, as long as their sender lives.
  enum class Patience { kLimited, kWhileAlive };
  virtual void Move(std::span<const Transfer> transfers, Patience patience = Patience::kLimited) = 0;
  /// Sums element by element in f32, rank 0's first, then rank 1's added, and so on: the same bits whenever they come. Other ranks' arrays stay.
  virtual void Add(std::span<const Reduction> reductions) = 0;
  /// The last call: waits until every rank has come to it.
  virtual void Finish() = 0;

  /// Rank 0's bytes, on every rank.
  std::string Broadcast(std::string bytes, Patience patience = Patience::kLimited);

 protected:
  Ranks(int rank, int size) : rank_(rank), size_(size) {}

 private:
  int rank_, size_;
};

}  // namespace april::ranks
