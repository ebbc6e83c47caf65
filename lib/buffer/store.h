// The buffer as one object: its journal, the state that the journal adds up to, and transactions on both.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/file.h"
#include "buffer/buffer_state.h"
#include "buffer/durability.h"
#include "buffer/journal.h"
#include "buffer/reserve.h"
#include "record/records.h"

namespace april::buffer {

struct StoreOptions {
  bool index = true;       ///< believe it; without it the state is what the journal adds up to
  bool take_over = false;  ///< on a network file system: write although another host is the owner
  int64_t lock_timeout_ms = 30'000;
  JournalLimits journal = {};
  Durability durability = {};          ///< of transactions that may wait
  uint64_t reserve_bytes = 16u << 20;  ///< set aside for what comes back when the disk is full
  uint64_t index_bytes = 32u << 20;  ///< a writer makes the index anew when so much of the journal, beside as much as the index has, stands behind it
};

/// What a transaction is for, when the disk is full.
enum class Room {
  kReserve,  ///< it keeps what was made (put, claim, commit, …): the reserve is freed for it
  kFree,     ///< it brings more (take, add): refused while nothing is in reserve
};

/// Whether a transaction has to be on disk when it returns, or may wait as long as the store's durability allows.
enum class Wait { kNo, kAsLongAsAllowed };

/// Entries of one transaction. Each is applied to the state as it is added, so that the next one is judged by what the ones before it changed.
class Batch {
 public:
  void Add(const Entry& entry, std::string_view payload = {});
  bool empty() const { return num_entries_ == begin_entries_; }
  size_t size_bytes() const { return raw_.size() - begin_; }

 private:
  friend class Store;
  Batch(State& state, Position at, int64_t ns) : state_(state), at_(at), ns_(ns) {}
  State& state_;
  Position at_;
  int64_t ns_;
  std::string raw_;
  uint32_t num_entries_ = 0;
  size_t begin_ = 0;  ///< of the transaction under way; before it stand those that are appended together with it
  uint32_t begin_entries_ = 0;
  bool touched_ = false;
};

/// Thread  one object, one thread; any number of processes may have one each.
class Store {
 public:
  /// Makes a buffer in `directory`, which must be missing or empty. Durable when it returns.
  static void Init(FileSystem& files, const Clock& clock, const std::string& directory, const RunConfig& config);

  /// Opens and reads the journal, without a lock.
  Store(FileSystem& files, const Clock& clock, std::string directory, const StoreOptions& options = {});

  const std::string& directory() const { return directory_; }
  /// One object for this store's whole life, also when the journal is read anew.
  const State& state() const { return state_; }
  const Journal& journal() const { return *journal_; }
  const Clock& clock() const { return clock_; }

  /// Applies what other processes appended.
  void Refresh();
  /// A transaction failed after the state had changed: what it tells did not happen, until Refresh.
  bool stale() const { return stale_; }

  /// Locks the buffer, reads what is new, runs `body`, appends its entries as one frame, syncs, unlocks. Nothing happened when it throws.
  /// Throws Runtime with the hub's address while one serves (unless this store is the hub's), or when the lock is not free in time; and always, once
  /// a write could not be made durable.
  void Transact(const std::function<void(Batch&)>& body, Wait wait = Wait::kNo, Room room = Room::kReserve);
  /// From now on transactions wait, applied to the state, for Flush, which appends them together: one frame, one sync. Nobody may be told of them
  /// before.
  void Collect() { collecting_ = true; }
  /// When it throws, none of the collected transactions happened, or it is unknown what the disk holds (CheckWritable).
  void Flush();
  /// Flushes, and throws what any Flush since the last Settle threw: those whose transactions were collected then were told of no failure yet.
  void Settle();
  /// Syncs what has waited long enough; while transactions are collected only begins to, so that they go on meanwhile, and waits for what it began
  /// before. Returns in how many milliseconds to call again; nothing when nothing waits.
  std::optional<int64_t> SyncIfDue();
  /// Everything that the journal has is on disk when this returns, whoever appended it.
  void Sync();
  /// The same, and marks the journal's end, for a writer that ends.
  void Finish();

  /// Room on the disk is set aside for what comes back. Without it a transaction that brings more is refused.
  bool HasReserve() const { return reserve_.made(); }
  /// Sets it aside if it is not. For the hub's store: others do it with their first transaction.
  bool MakeReserve() { return reserve_.Make(); }

  /// The buffer's lock, which every change of its files needs. Throws Runtime when it is not free in time.
  std::unique_ptr<FileLock> LockBuffer();
  /// Under the lock: reads what is new, and closes the journal's last segment, so that this state is what the closed ones add up to. Keeps `numbers`
  /// segment numbers for the caller, and returns the first of them. A hub may serve meanwhile.
  uint32_t CloseJournal(uint32_t numbers);

  /// Throws Runtime once a write could not be made durable: what the disk holds is unknown, so that neither this state nor one that is read again may
  /// be told to anybody.
  void CheckWritable() const;

  /// Makes this store the hub's: writers by path are refused from now on until the object dies. Throws Runtime when another hub serves.
  void BeginServing(const std::string& address);

  /// The record behind the entry at `at`, as it was put.
  std::string ReadPayload(Position at);
  /// The prompt record of a prompt of the queue; valid until the next call.
  const record::Prompt& ReadPrompt(int64_t prompt);
  /// The rollout as the journal has it: its newest whole record and what was added to it since.
  record::Rollout ReadJournaled(uint64_t key);
  /// The rollout with all of its journaled tokens, as it would be issued now: status queued or partial while it is not finished.
  record::Rollout ReadRollout(uint64_t key);

 private:
  void Load();
  void ReadJournal();
  void Begin(Room room);
  void Run(const std::function<void(Batch&)>& body);
  void NoteFailure(const std::exception& error);
  void MarkEnd();
  void Syncing(const std::function<void()>& sync);
  void WithRoom(Room room, const std::function<void()>& write);
  void RequireReserve() const;
  void IndexIfOld();
  void CheckNoHub();
  void CheckOwner();
  void WriteOwner(const std::string& address);

  FileSystem& files_;
  const Clock& clock_;
  std::string directory_;
  StoreOptions options_;
  std::unique_ptr<Journal> journal_;
  State state_;
  std::unique_ptr<FileLock> serving_;
  Reserve reserve_;
  std::exception_ptr lost_;  ///< what a Flush of collected transactions met since Settle
  bool owner_checked_ = false;
  Room room_ = Room::kReserve;          ///< that the batch may use
  std::optional<int64_t> prompt_read_;  ///< which prompt `prompt_` is: a group's members are issued one after another
  record::Prompt prompt_;
  std::optional<Batch> batch_;                   ///< of the transactions under way: their payloads are not in the journal yet
  std::unique_ptr<FileLock> lock_;               ///< held while there is a batch
  uint64_t indexed_bytes_ = 0, index_size_ = 0;  ///< of the journal, up to the index; of the index
  bool collecting_ = false;
  bool must_sync_ = false;                 ///< the batch holds what may not wait
  std::optional<int64_t> unsynced_since_;  ///< monotonic, ns
  std::string failure_;                    ///< why this process writes no more
  bool stale_ = false;                     ///< a transaction failed after the state had changed: read again
};

}  // namespace april::buffer
