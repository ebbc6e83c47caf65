#include "buffer/store.h"

#include <exception>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "buffer/index_file.h"
#include "buffer/owner.h"
#include "buffer/payloads.h"

namespace april::buffer {

void Batch::Add(const Entry& entry, std::string_view payload) {
  Position at = at_;
  at.entry = static_cast<uint32_t>(raw_.size());
  DecodedEntry decoded;
  decoded.entry = entry;
  decoded.ns = ns_;
  decoded.payload = payload;
  touched_ = true;
  state_.Apply(decoded, at);
  AppendEntry(entry, ns_, payload, &raw_);
  ++num_entries_;
}

void Store::Init(FileSystem& files, const Clock& clock, const std::string& directory, const RunConfig& config) {
  if (files.Exists(directory) && !files.List(directory).empty()) {
    throw Error::Usage(directory + " is not empty", "choose a new directory: a buffer belongs to one run");
  }
  MakeDirectoryDurably(files, directory);
  std::string raw;
  AppendEntry(InitEntry{config}, clock.WallNs(), {}, &raw);
  Journal::Create(files, directory, config.run, raw, 1);
  Reserve(files, directory, StoreOptions().reserve_bytes).Make();
}

Store::Store(FileSystem& files, const Clock& clock, std::string directory, const StoreOptions& options)
    : files_(files), clock_(clock), directory_(std::move(directory)), options_(options), reserve_(files, directory_, options.reserve_bytes) {
  Load();
}

void Store::Load() {
  stale_ = true;  // until all of it is read
  if (journal_ && journal_->syncing()) Sync();
  journal_ = std::make_unique<Journal>(files_, directory_, options_.journal);
  state_ = State();
  prompt_read_.reset();
  indexed_bytes_ = index_size_ = 0;
  if (auto index = options_.index ? ReadIndex(files_, directory_) : std::nullopt; index && journal_->GoTo(index->point)) {
    state_ = std::move(index->state);
    indexed_bytes_ = journal_->size_bytes();
    index_size_ = index->bytes;
  }
  ReadJournal();
  if (!state_.initialised()) throw Error::Data(directory_ + ": its journal is empty", RepairHint(directory_));
  try {
    state_.CheckSnapshot();
  } catch (const Error& error) {
    throw Error::Data(directory_ + ": " + error.message(), RepairHint(directory_));
  }
  stale_ = false;
}

void Store::ReadJournal() {
  const bool go_on = journal_->ReadNew([this](std::string_view raw, Position at) {
    size_t next = 0;
    try {
      ForEachEntry(raw, [&](const DecodedEntry& decoded, size_t offset) {
        at.entry = static_cast<uint32_t>(offset);
        state_.Apply(decoded, at);
        next = offset + decoded.entry_bytes + decoded.payload.size();
      });
    } catch (const Error& error) {
      const std::string where = directory_ + ": segment " + std::to_string(at.segment) + ", frame at offset " + std::to_string(at.frame) +
                                ", entry at " + std::to_string(next);
      if (error.kind() != ErrorKind::kData) throw error.Within(where);
      throw Error::Data(where + ": " + error.message(), RepairHint(directory_));
    }
  });
  if (!go_on) Load();
}

void Store::Refresh() {
  if (stale_) {
    Load();
  } else {
    stale_ = true;  // an entry that fails stays half applied
    ReadJournal();
    stale_ = false;
  }
}

void Store::CheckWritable() const {
  if (failure_.empty()) return;
  throw Error::Runtime(directory_ + ": nothing more is written since a write could not be made durable: " + failure_,
                       "nothing that was acknowledged is lost; repair the disk or free space, then start again: what is there is read anew");
}

std::unique_ptr<FileLock> Store::LockBuffer() {
  auto lock = files_.Lock(JoinPath(directory_, "lock"), options_.lock_timeout_ms);
  if (!lock) {
    throw Error::Runtime(directory_ + ": another process has held the lock for " + std::to_string(options_.lock_timeout_ms / 1000) + " s",
                         "see who has " + JoinPath(directory_, "lock") + " open: fuser -v " + JoinPath(directory_, "lock"));
  }
  return lock;
}

uint32_t Store::CloseJournal(uint32_t numbers) {
  CheckWritable();
  const auto lock = LockBuffer();
  Refresh();
  CheckOwner();
  return journal_->CloseSegment(numbers);
}

void Store::Transact(const std::function<void(Batch&)>& body, Wait wait, Room room) {
  CheckWritable();
  constexpr size_t kMaxCollectedBytes = 16u << 20;
  try {
    if (!batch_) {
      Begin(room);
    } else if (room == Room::kFree) {
      RequireReserve();
    } else {
      room_ = Room::kReserve;
    }
    Run(body);
  } catch (const std::exception& error) {
    NoteFailure(error);
    throw;
  }
  must_sync_ = must_sync_ || wait == Wait::kNo || options_.durability.mode == Durability::Mode::kSync;
  if (!collecting_ || batch_->raw_.size() > kMaxCollectedBytes) Flush();
}

void Store::Begin(Room room) {
  auto lock = LockBuffer();
  if (!serving_) CheckNoHub();
  Refresh();
  if (room == Room::kFree || !owner_checked_) reserve_.Make();  // what comes back does not compete for room again and again
  if (room == Room::kFree) RequireReserve();
  room_ = room;
  Position next;
  WithRoom(room, [&] {
    CheckOwner();
    next = journal_->NextPosition();
  });
  batch_.emplace(Batch(state_, next, clock_.WallNs()));
  lock_ = std::move(lock);
}

void Store::Run(const std::function<void(Batch&)>& body) {
  batch_->begin_ = batch_->raw_.size();
  batch_->begin_entries_ = batch_->num_entries_;
  batch_->touched_ = false;
  try {
    body(*batch_);
  } catch (...) {
    const bool touched = batch_->touched_;
    // The state is ahead of the journal by this one's entries; those before it stand.
    batch_->raw_.resize(batch_->begin_);
    batch_->num_entries_ = batch_->begin_entries_;
    stale_ = touched;
    if (touched || !collecting_) Flush();
    throw;
  }
}

void Store::Flush() {
  if (!batch_) return;
  const bool must_sync = std::exchange(must_sync_, false);
  const auto close = [this] {
    batch_.reset();
    lock_.reset();
  };
  try {
    const bool appends = batch_->num_entries_ > 0;
    if (appends) {
      WithRoom(room_, [&] { journal_->Append(batch_->raw_, batch_->num_entries_); });
      if (!unsynced_since_) unsynced_since_ = clock_.MonotonicNs();
    }
    // Also when nothing was appended: what is told again may stand in the journal, of a writer that died before its sync.
    if (must_sync && (appends || !unsynced_since_)) Sync();
    IndexIfOld();
    if (must_sync && appends && !collecting_) MarkEnd();
    close();
  } catch (const std::exception& error) {
    NoteFailure(error);
    close();
    stale_ = true;  // the state is ahead of the journal
    if (collecting_) lost_ = std::current_exception();
    throw;
  }
}

void Store::Settle() {
  try {
    Flush();
  } catch (const std::exception&) {  // noted, as any before it
  }
  if (const std::exception_ptr lost = std::exchange(lost_, nullptr)) std::rethrow_exception(lost);
  CheckWritable();
}

void Store::IndexIfOld() {
  const auto point = journal_->Here();
  // Never of a state that is ahead of the journal: whoever opens the buffer believes the index.
  if (stale_ || !journal_->synced() || !point || journal_->size_bytes() < indexed_bytes_ + options_.index_bytes + index_size_) return;
  try {
    index_size_ = WriteIndex(files_, directory_, *point, state_);
  } catch (const Error& error) {
    log::WarnOnce("index", "the index could not be written, so opening the buffer takes longer: " + error.message());
  }
  indexed_bytes_ = journal_->size_bytes();
}

std::optional<int64_t> Store::SyncIfDue() {
  constexpr int64_t kNsPerMs = 1'000'000;
  if (options_.durability.mode == Durability::Mode::kOs) return std::nullopt;
  const int64_t batch_ms = options_.durability.batch_ms;
  const int64_t left_ms = unsynced_since_ ? batch_ms - (clock_.MonotonicNs() - *unsynced_since_) / kNsPerMs : 0;
  if (left_ms > 0) return left_ms;
  if (!unsynced_since_ || !collecting_) {
    Sync();
    return std::nullopt;
  }
  Syncing([this] { journal_->BeginSync(); });
  return batch_ms;
}

void Store::Sync() {
  if (!journal_->synced()) Syncing([this] { journal_->Sync(); });
}

void Store::Finish() {
  Sync();
  constexpr int64_t kTimeoutMs = 1000;
  const auto lock = files_.Lock(JoinPath(directory_, "lock"), kTimeoutMs);
  if (!lock) return;  // another writer goes on: its frames tell it
  Refresh();
  MarkEnd();
}

/// Who wrote is told that it is done either way: the mark only helps to tell damage from a torn tail.
void Store::MarkEnd() {
  try {
    journal_->MarkEnd();
  } catch (const Error& error) {
    NoteFailure(error);
  }
}

void Store::Syncing(const std::function<void()>& sync) {
  try {
    sync();
  } catch (const std::exception& error) {
    NoteFailure(error);
    throw;
  }
  unsynced_since_.reset();
}

void Store::NoteFailure(const std::exception& error) {
  if (journal_->broken() && failure_.empty()) failure_ = error.what();
}

/// What finds no room on the disk is tried once more with the reserve's. Never a sync: that would be told as done without being so.
void Store::WithRoom(Room room, const std::function<void()>& write) {
  try {
    write();
    return;
  } catch (const Error& error) {
    if (!IsDiskFull(error) || room != Room::kReserve || journal_->broken() || !reserve_.Free()) throw;
    log::Warn(error.message() + "; the reserve of " + HumanBytes(reserve_.num_bytes()) +
              " was freed, so that what comes back is kept; take is refused until there is "
              "room again");
  }
  write();
}

void Store::RequireReserve() const {
  if (reserve_.made()) return;
  throw Error::DiskFull(directory_ + ": nothing is given out or added while no room is in reserve for what comes back: " + reserve_.why(),
                        "put, claim and commit still work; free more than " + HumanBytes(reserve_.num_bytes()) + " on its disk: df -h " + directory_);
}

void Store::CheckNoHub() {
  if (!IsServed(files_, directory_)) return;
  const std::string address = ReadOwner(files_, directory_).address;
  throw Error::Runtime(
      directory_ + " is served at " + (address.empty() ? "an address that is not known yet" : address) + ": it cannot be written by path",
      "use -s " + (address.empty() ? "zmq+ipc://…" : address) + ", or stop the server");
}

void Store::CheckOwner() {
  if (owner_checked_) return;
  const Owner self = ThisMachine();
  const Owner owner = ReadOwner(files_, directory_);
  const bool elsewhere = !owner.host.empty() && (owner.host != self.host || owner.boot_id != self.boot_id);
  if (!owner.host.empty() && owner.host != self.host && IsNetworkFileSystem(directory_)) {
    if (!options_.take_over) {
      throw Error::Runtime(directory_ + " is on a network file system and was last written on host " + owner.host + ", this is " + self.host,
                           "write it there; or, when nothing on " + owner.host + " writes it any more, add --take-over");
    }
    journal_->RaiseEpoch();
  }
  if (owner.host.empty() || elsewhere) WriteOwner("");
  owner_checked_ = true;
}

void Store::WriteOwner(const std::string& address) {
  Owner owner = ThisMachine();
  owner.writer_epoch = journal_->manifest().writer_epoch;
  owner.address = address;
  buffer::WriteOwner(files_, directory_, owner);
}

void Store::BeginServing(const std::string& address) {
  const auto lock = LockBuffer();
  CheckNoHub();
  serving_ = files_.Lock(JoinPath(directory_, kServeLock), 0);
  if (!serving_) throw Error::Runtime(directory_ + ": another hub began to serve it at this moment");
  Refresh();
  reserve_.Make();
  WithRoom(Room::kReserve, [&] {
    CheckOwner();
    WriteOwner(address);
  });
}

std::string Store::ReadPayload(Position at) {
  const bool pending = batch_ && batch_->at_.segment == at.segment && batch_->at_.frame == at.frame;
  const auto frame = pending ? nullptr : journal_->ReadFrame(at);
  const std::string_view raw = pending ? std::string_view(batch_->raw_) : std::string_view(*frame);
  if (at.entry >= raw.size()) throw Error::Data(directory_ + ": an entry is named that is not in its frame");
  return std::string(ReadEntry(raw.substr(at.entry)).payload);
}

const record::Prompt& Store::ReadPrompt(int64_t prompt) {
  if (prompt_read_ != prompt) {
    prompt_read_.reset();
    prompt_ = DecodePayload<record::Prompt>(ReadPayload(state_.queue().prompt(prompt).payload));
    prompt_read_ = prompt;
  }
  return prompt_;
}

record::Rollout Store::ReadJournaled(uint64_t key) {
  const RolloutMeta& meta = state_.rollout(key);
  const GroupMeta& group = state_.group(AdmissionOf(key));
  record::Rollout rollout = IsSomewhere(meta.payload)
                                ? DecodePayload<record::Rollout>(ReadPayload(meta.payload))
                                : NewRollout(state_.config(), ReadPrompt(group.prompt), group.epoch, static_cast<int64_t>(IndexOf(key)));
  for (const Position delta : meta.deltas) AppendProgress(DecodePayload<record::Progress>(ReadPayload(delta)), &rollout);
  return rollout;
}

record::Rollout Store::ReadRollout(uint64_t key) {
  const RolloutMeta& meta = state_.rollout(key);
  const GroupMeta& group = state_.group(AdmissionOf(key));
  record::Rollout rollout = ReadJournaled(key);
  rollout.admitted_step = group.admitted_step;
  if (meta.state == RolloutState::kQueued || meta.state == RolloutState::kPartial || meta.state == RolloutState::kLeased) {
    rollout.status = rollout.tokens.empty() ? record::Status::kQueued : record::Status::kPartial;
    rollout.finish = record::Finish::kNone;
    rollout.lease.reset();
    if (meta.state == RolloutState::kLeased) rollout.lease = record::Lease{meta.lease_id, meta.lease_epoch};
  }
  return rollout;
}

}  // namespace april::buffer
