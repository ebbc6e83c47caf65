#include "buffer/store.h"

#include <exception>
#include <utility>
#include <vector>

#include "base/error.h"
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
  std::vector<std::string> grown = {DirectoryOf(directory)};  // directories that get a name
  while (!files.Exists(grown.back())) grown.push_back(DirectoryOf(grown.back()));
  files.MakeDirectory(directory);
  for (const std::string& parent : grown) files.SyncDirectory(parent);
  std::string raw;
  AppendEntry(InitEntry{config}, clock.WallNs(), {}, &raw);
  Journal::Create(files, directory, config.run, raw, 1);
}

Store::Store(FileSystem& files, const Clock& clock, std::string directory, const StoreOptions& options)
    : files_(files), clock_(clock), directory_(std::move(directory)), options_(options) {
  Load();
}

void Store::Load() {
  stale_ = true;  // until all of it is read
  journal_ = std::make_unique<Journal>(files_, directory_, options_.journal);
  state_ = State();
  ReadJournal();
  if (!state_.initialised()) throw Error::Data(directory_ + ": its journal is empty");
  stale_ = false;
}

void Store::ReadJournal() {
  const bool go_on = journal_->ReadNew([this](std::string_view raw, Position at) {
    for (size_t offset = 0; offset < raw.size();) {
      at.entry = static_cast<uint32_t>(offset);
      try {
        const DecodedEntry decoded = ReadEntry(raw.substr(offset));
        state_.Apply(decoded, at);
        offset += decoded.entry_bytes + decoded.payload.size();
      } catch (const Error& error) {
        throw error.Within(directory_ + ": segment " + std::to_string(at.segment) + ", frame at offset " + std::to_string(at.frame) + ", entry at " +
                           std::to_string(offset));
      }
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

void Store::Transact(const std::function<void(Batch&)>& body) {
  CheckWritable();
  const auto lock = LockBuffer();
  if (!serving_) CheckNoHub();
  try {
    RunLocked(body);
  } catch (const std::exception& error) {
    if (journal_->broken()) failure_ = error.what();
    throw;
  }
}

void Store::RunLocked(const std::function<void(Batch&)>& body) {
  Refresh();
  CheckOwner();
  Batch batch(state_, journal_->NextPosition(), clock_.WallNs());
  batch_ = &batch;
  try {
    body(batch);
    if (!batch.empty()) {
      journal_->Append(batch.raw_, batch.num_entries_);
      journal_->Sync();
    }
    batch_ = nullptr;
  } catch (...) {
    batch_ = nullptr;
    stale_ = batch.touched_;  // the state is ahead of the journal
    throw;
  }
}

void Store::CheckNoHub() {
  const std::string path = JoinPath(directory_, "serve.lock");
  if (!files_.Exists(path) || files_.Lock(path, 0)) return;
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
  serving_ = files_.Lock(JoinPath(directory_, "serve.lock"), 0);
  Refresh();
  CheckOwner();
  WriteOwner(address);
}

std::shared_ptr<const std::string> Store::ReadFrame(Position at) {
  if (batch_ && batch_->at_.segment == at.segment && batch_->at_.frame == at.frame) return std::make_shared<const std::string>(batch_->raw_);
  return journal_->ReadFrame(at);
}

std::string Store::ReadPayload(Position at) {
  const auto raw = ReadFrame(at);
  if (at.entry >= raw->size()) throw Error::Data(directory_ + ": an entry is named that is not in its frame");
  return std::string(ReadEntry(std::string_view(*raw).substr(at.entry)).payload);
}

record::Prompt Store::ReadPrompt(int64_t prompt) {
  return std::get<record::Prompt>(record::DecodeRecord(ReadPayload(state_.queue().prompt(prompt).payload)));
}

record::Rollout Store::ReadJournaled(uint64_t key) {
  const RolloutMeta& meta = state_.rollout(key);
  const GroupMeta& group = state_.group(AdmissionOf(key));
  record::Rollout rollout = IsSomewhere(meta.payload)
                                ? std::get<record::Rollout>(record::DecodeRecord(ReadPayload(meta.payload)))
                                : NewRollout(state_.config(), ReadPrompt(group.prompt), group.epoch, static_cast<int64_t>(IndexOf(key)));
  for (const Position delta : meta.deltas) AppendProgress(std::get<record::Progress>(record::DecodeRecord(ReadPayload(delta))), &rollout);
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
