// A file system in memory that loses power: after any operation, with any part of what was not synced.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"

namespace april::test {

/// Thrown by the operation behind which power is lost, and by every one after it, until Restart. No Error: nobody handles it.
struct PowerLost {};

/// What survives a loss of power: synced bytes of files, synced names of directories, and of the rest whatever `Restart` draws: each append whole,
/// cut, as zeros or not at all; each truncation, creation, renaming and removal done or not, in any combination. Thread  one.
class MemoryFiles : public FileSystem {
 public:
  int64_t operations = 0;             ///< that change something, so far
  int64_t lose_power_at = INT64_MAX;  ///< behind this many of them

  /// The machine starts again. `seed` decides what survives.
  void Restart(uint64_t seed) {
    uint64_t draws = 0;
    Restart([&](uint64_t below) { return RandomBits(seed, RandomUse::kTest, 9, draws++) % below; });
  }
  /// The same, and everything survives.
  void RestartWhole() {
    Restart([](uint64_t) { return uint64_t{0}; });
  }
  /// Nothing survives that was not synced.
  void RestartSynced() {
    Restart([](uint64_t below) { return below - 1; });
  }

  /// kill -9: the machine goes on, with everything that was done; what was not synced may still be lost with the power.
  void Kill() {
    lose_power_at = INT64_MAX;
    lost_ = false;
    locked_.clear();
  }

  std::unique_ptr<WritableFile> Create(const std::string& path) override {
    Alive();
    std::shared_ptr<Inode>& inode = names_[path];
    if (inode) {
      inode->Truncate(0);
    } else {
      Note({"", path, NewInode()});
    }
    Done();
    return std::make_unique<Writer>(*this, inode);
  }
  std::unique_ptr<WritableFile> OpenForAppend(const std::string& path) override {
    Alive();
    const auto found = names_.find(path);
    return found == names_.end() ? Create(path) : std::make_unique<Writer>(*this, found->second);
  }
  std::unique_ptr<ReadableFile> OpenForRead(const std::string& path) override {
    Alive();
    const auto found = names_.find(path);
    if (found == names_.end()) throw Error::System("cannot open", path, ENOENT);
    return std::make_unique<Reader>(found->second);
  }
  void Rename(const std::string& from, const std::string& to) override {
    Alive();
    Note({from, to, names_.at(from)});
    Done();
  }
  void Remove(const std::string& path) override {
    Alive();
    if (!names_.contains(path)) throw Error::System("cannot remove", path, ENOENT);
    Note({path, "", nullptr});
    Done();
  }
  void SyncDirectory(const std::string& path) override {
    Alive();
    const auto within = [&](const NameChange& change) { return DirectoryOf(change.to.empty() ? change.from : change.to) == path; };
    for (const NameChange& change : changes_) {
      if (within(change)) Apply(change, &durable_);
    }
    std::erase_if(changes_, within);
    Done();
  }
  void MakeDirectory(const std::string& path) override {
    Alive();
    if (path == "." || names_.contains(path)) return;
    MakeDirectory(DirectoryOf(path));
    Note({"", path, NewInode()});
    Done();
  }
  bool Exists(const std::string& path) override {
    Alive();
    return path == "." || names_.contains(path);
  }
  std::vector<std::string> List(const std::string& path) override {
    Alive();
    std::vector<std::string> found;
    for (const auto& [name, inode] : names_) {
      if (DirectoryOf(name) == path) found.push_back(name.substr(path.size() + 1));
    }
    return found;
  }
  std::unique_ptr<FileLock> Lock(const std::string& path, int64_t) override {
    Alive();
    if (std::find(locked_.begin(), locked_.end(), path) != locked_.end()) return nullptr;
    locked_.push_back(path);
    return std::make_unique<Held>(*this, path);
  }

 private:
  struct Inode {
    std::string bytes, durable;
    struct Write {
      size_t at;
      std::string bytes;  ///< empty: a truncation to `at`
    };
    std::vector<Write> pending;

    void Append(std::string_view more) {
      if (!more.empty()) pending.push_back({bytes.size(), std::string(more)});
      bytes += more;
    }
    void Truncate(size_t size) {
      bytes.resize(size);
      pending.push_back({size, ""});
    }
    void Sync() {
      durable = bytes;
      pending.clear();
    }
    template <typename Draw>
    void Settle(const Draw& draw) {
      for (const Write& write : pending) {
        if (write.bytes.empty()) {
          if (draw(2) == 0 && write.at < durable.size()) durable.resize(write.at);
          continue;
        }
        enum { kWhole, kCut, kZeros, kGone };
        const auto what = draw(4);
        if (what == kGone) continue;
        const size_t size = what == kCut ? draw(write.bytes.size() + 1) : write.bytes.size();
        if (durable.size() < write.at + size) durable.resize(write.at + size, '\0');
        if (what != kZeros) std::memcpy(durable.data() + write.at, write.bytes.data(), size);
      }
      pending.clear();
      bytes = durable;
    }
  };
  struct NameChange {
    std::string from, to;  ///< created: from is empty; removed: to is
    std::shared_ptr<Inode> inode;
  };
  using Names = std::map<std::string, std::shared_ptr<Inode>>;

  static void Apply(const NameChange& change, Names* names) {
    if (!change.from.empty()) names->erase(change.from);
    if (!change.to.empty()) (*names)[change.to] = change.inode;
  }
  template <typename Draw>
  void Restart(const Draw& draw) {
    lose_power_at = INT64_MAX;
    lost_ = false;
    locked_.clear();
    for (const std::shared_ptr<Inode>& inode : inodes_) inode->Settle(draw);
    for (const NameChange& change : changes_) {
      if (draw(2) == 0) Apply(change, &durable_);
    }
    // What is in a directory that was never there is not there either.
    std::erase_if(durable_, [&](const auto& item) { return !HasParents(item.first); });
    names_ = durable_;
    changes_.clear();
    std::erase_if(inodes_, [](const auto& inode) { return inode.use_count() == 1; });
  }

  bool HasParents(const std::string& path) const {
    const std::string parent = DirectoryOf(path);
    return parent == "." || (durable_.contains(parent) && HasParents(parent));
  }
  std::shared_ptr<Inode> NewInode() {
    inodes_.push_back(std::make_shared<Inode>());
    return inodes_.back();
  }
  void Note(NameChange change) {
    Apply(change, &names_);
    changes_.push_back(std::move(change));
  }
  void Alive() const {
    if (lost_) throw PowerLost();
  }
  void Done() {
    if (++operations < lose_power_at) return;
    lost_ = true;
    throw PowerLost();
  }

  class Writer : public WritableFile {
   public:
    Writer(MemoryFiles& files, std::shared_ptr<Inode> inode) : files_(files), inode_(std::move(inode)) {}
    void Append(const void* data, size_t num_bytes) override {
      files_.Alive();
      inode_->Append({static_cast<const char*>(data), num_bytes});
      files_.Done();
    }
    void Sync() override {
      files_.Alive();
      inode_->Sync();
      files_.Done();
    }
    void Truncate(uint64_t size) override {
      files_.Alive();
      inode_->Truncate(size);
      files_.Done();
    }
    uint64_t Size() const override { return inode_->bytes.size(); }
    void Close() override {}

   private:
    MemoryFiles& files_;
    std::shared_ptr<Inode> inode_;
  };
  class Reader : public ReadableFile {
   public:
    explicit Reader(std::shared_ptr<Inode> inode) : inode_(std::move(inode)) {}
    size_t ReadAt(uint64_t offset, void* data, size_t num_bytes) const override {
      const std::string& bytes = inode_->bytes;
      const size_t count = offset >= bytes.size() ? 0 : std::min<size_t>(num_bytes, bytes.size() - offset);
      if (count > 0) std::memcpy(data, bytes.data() + offset, count);
      return count;
    }
    uint64_t Size() const override { return inode_->bytes.size(); }

   private:
    std::shared_ptr<Inode> inode_;
  };
  class Held : public FileLock {
   public:
    Held(MemoryFiles& files, std::string path) : files_(files), path_(std::move(path)) {}
    ~Held() override { std::erase(files_.locked_, path_); }

   private:
    MemoryFiles& files_;
    std::string path_;
  };

  Names names_, durable_;
  std::vector<std::shared_ptr<Inode>> inodes_;
  std::vector<NameChange> changes_;  ///< of names, not synced
  std::vector<std::string> locked_;
  bool lost_ = false;
};

}  // namespace april::test
