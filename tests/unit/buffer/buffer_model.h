// The real buffer on files that lose power, beside the obvious one: both get the same random operations and never differ.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "buffer/store.h"
#include "buffer_support.h"
#include "memory_files.h"
#include "reference_buffer.h"

namespace april::test {

inline constexpr const char* kModelDirectory = "run/buffer";

class BufferModel {
 public:
  /// What has happened in a life: a test of nothing is none.
  struct Counts {
    int64_t losses = 0, undone = 0, claims = 0, filtered = 0, stale = 0, rewinds = 0, refused = 0, waits = 0, certain_only = 0;
    Counts& operator+=(const Counts& other);
  };

  /// Another seed is another sequence of operations, and of what a loss of power spares.
  BufferModel(uint64_t seed, const buffer::RunConfig& config);

  /// A run with policies that the seed draws.
  static buffer::RunConfig WithPolicies(uint64_t seed);

  /// One random operation: add, take, put, progress, release, claim, commit, abandon, drop, rewind, rescore, late records, compact, reopen. When the
  /// process is killed or the power goes, it begins again with all that was promised to last.
  void Step();
  /// Behind the operation of that number on files, see operations(): the power, or the process alone.
  void LosePowerAt(int64_t operation) { files_.lose_power_at = operation; }
  bool MayLosePower() const { return files_.lose_power_at != INT64_MAX; }
  int64_t operations() const { return files_.operations; }
  Counts counts() const;

  /// Fails the test where states, orders, counts or rewards differ.
  void Compare() const;
  /// Every token that was journaled is there, bit for bit.
  void CompareTokens();
  /// The journal proves by itself that nothing was lost or trained twice.
  void Audit();

 private:
  /// What generators have in their memory.
  struct Workers {
    uint64_t next_lease = 0;
    std::vector<record::Rollout> held, finished;
  };

  /// What an operation that may wait is worth once it returned: it is on disk, the system has it, or only this process has.
  enum class Promise { kAtOnce, kSystem, kCollected };
  struct Moment {
    ReferenceBuffer reference;
    Workers workers;
  };

  uint64_t Draw(uint64_t below) { return RandomBits(seed_, RandomUse::kTest, 0, draws_++) % below; }
  const buffer::State& state() const { return store_->state(); }
  void Reopen();
  void Settle();
  void Lasts();
  void Recover();
  void Transact(const std::function<void(buffer::Batch&)>& body, buffer::Wait wait = buffer::Wait::kNo);
  buffer::PutCounts PutAll(const std::vector<record::Record>& records);
  void Operate();
  std::string Difference() const;  ///< from the reference; empty when there is none
  std::string DifferenceOfGroups() const;
  std::string DifferenceOfTokens();
  std::string DifferenceOfAll();
  std::string DifferenceOfSums() const;
  uint64_t SomeVersion();
  void AddSome();
  void TakeSome();
  void PutSome();
  record::Rollout Outcome(record::Rollout rollout);
  void PutStale();
  void RescoreOne();
  void ReleaseOne();
  void ClaimSome();
  void CommitSome();
  void CommitUndone();
  void RewindSome();
  void AbandonNewest();
  void DropOne();

  uint64_t seed_, draws_ = 0;
  Counts counts_;
  MemoryFiles files_;
  SetClock clock_;
  std::unique_ptr<buffer::Store> store_;
  ReferenceBuffer reference_;
  Workers workers_;
  Promise promise_;
  std::vector<Moment> earlier_;  ///< what a loss of power may go back to, oldest first
  size_t first_killable_ = 0;    ///< and a kill only to those from here on
  bool must_last_ = false;       ///< what happened last was promised to be on disk once it is told
};

}  // namespace april::test
