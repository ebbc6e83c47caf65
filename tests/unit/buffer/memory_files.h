// A file system in memory that loses power: after any operation, with any part of what was not synced.
#pragma once

#include <algorithm>
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
/// cut, or as zeros when a later one survived; each truncation, creation, renaming and removal done or not. One directory level is told from another
/// only by its path. Thread  one.
class MemoryFiles : public FileSystem {
 public:
  int64_t operations = 0;                ///< that change something, so far
  int64_t lose_power_after = INT64_MAX;  ///< this many of them

  /// The machine starts again. `seed` decides what survives; 0: everything that was done, as after kill -9.
  void Restart(uint64_t seed) {
    lose_power_after = INT64_MAX;
    lost_ = false;
    locked_.clear();
    uint64_t draws = 0;
    const auto kept = [&] { return seed == 0 || RandomBits(seed, RandomUse::kTest, 9, draws++) % 2 == 0; };
    const auto part = [&](size_t size) {
      const uint64_t draw = RandomBits(seed, RandomUse::kTest, 9, draws++);
      return seed == 0 || draw % 3 == 0 ? size : draw % 3 == 1 ? 0 : static_cast<size_t>(draw >> 8) % (size + 1);
    };
    for (const std::shared_ptr<Inode>& inode : inodes_) inode->Settle(part, kept);
    std::map<std::string, std::shared_ptr<Inode>> names = durable_;
    for (const Change& change : changes_) {
      if (kept()) Apply(change, &names);
    }
    durable_ = names_ = std::move(names);
    changes_.clear();
  }

  std::unique_ptr<WritableFile> Create(const std::string& path) override {
    Alive();
    auto inode = std::make_shared<Inode>();
    inodes_.push_back(inode);
    Change(path, inode);
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
    return std::make_unique<Seen>(found->second);
  }
  void Rename(const std::string& from, const std::string& to) override {
    Alive();
    Note({from, to, names_.at(from)});
    Done();
  }
  void Remove(const std::string& path) override {
    Alive();
    Note({path, "", nullptr});
    Done();
  }
  void SyncDirectory(const std::string& path) override {
    Alive();
    const auto within = [&](const struct Change& change) { return DirectoryOf(change.to.empty() ? change.from : change.to) == path; };
    for (const struct Change& change : changes_) {
      if (within(change)) Apply(change, &durable_);
    }
    std::erase_if(changes_, within);
    Done();
  }
  void MakeDirectory(const std::string& path) override {
    Alive();
    directories_.push_back(path);
  }
  bool Exists(const std::string& path) override {
    Alive();
    return names_.contains(path) || std::find(directories_.begin(), directories_.end(), path) != directories_.end();
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
    if (!names_.contains(path)) Create(path);
    if (std::find(locked_.begin(), locked_.end(), path) != locked_.end()) return nullptr;
    locked_.push_back(path);
    return std::make_unique<Held>(*this, path);
  }

 private:
  struct Inode {
    std::string bytes, durable;
    struct Write {
      size_t at;
      std::string bytes;  // empty: a truncation to `at`
    };
    std::vector<Write> pending;

    template <typename Part, typename Kept>
    void Settle(const Part& part, const Kept& kept) {
      for (const Write& write : pending) {
        if (write.bytes.empty()) {
          if (kept() && write.at < durable.size()) durable.resize(write.at);
          continue;
        }
        const size_t size = part(write.bytes.size());
        if (size == 0) continue;
        if (durable.size() < write.at + size) durable.resize(write.at + size, '\0');
        std::memcpy(durable.data() + write.at, write.bytes.data(), size);
      }
      pending.clear();
      bytes = durable;
    }
  };
  struct Change {
    std::string from, to;  // created: from is empty; removed: to is
    std::shared_ptr<Inode> inode;
  };
  static void Apply(const struct Change& change, std::map<std::string, std::shared_ptr<Inode>>* names) {
    if (!change.from.empty()) names->erase(change.from);
    if (!change.to.empty()) (*names)[change.to] = change.inode;
  }
  void Note(struct Change change) {
    Apply(change, &names_);
    changes_.push_back(std::move(change));
  }
  void Change(const std::string& path, std::shared_ptr<Inode> inode) { Note({"", path, std::move(inode)}); }
  void Alive() const {
    if (lost_) throw PowerLost();
  }
  void Done() {
    if (++operations < lose_power_after) return;
    lost_ = true;
    throw PowerLost();
  }

  class Writer : public WritableFile {
   public:
    Writer(MemoryFiles& files, std::shared_ptr<Inode> inode) : files_(files), inode_(std::move(inode)) {}
    void Append(const void* data, size_t num_bytes) override {
      files_.Alive();
      const std::string bytes(static_cast<const char*>(data), num_bytes);
      if (!bytes.empty()) inode_->pending.push_back({inode_->bytes.size(), bytes});
      inode_->bytes += bytes;
      files_.Done();
    }
    void Sync() override {
      files_.Alive();
      inode_->durable = inode_->bytes;
      inode_->pending.clear();
      files_.Done();
    }
    void Truncate(uint64_t size) override {
      files_.Alive();
      inode_->bytes.resize(size);
      inode_->pending.push_back({size, ""});
      files_.Done();
    }
    uint64_t Size() const override { return inode_->bytes.size(); }
    void Close() override {}

   private:
    MemoryFiles& files_;
    std::shared_ptr<Inode> inode_;
  };
  class Seen : public ReadableFile {
   public:
    explicit Seen(std::shared_ptr<Inode> inode) : inode_(std::move(inode)) {}
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

  std::map<std::string, std::shared_ptr<Inode>> names_, durable_;
  std::vector<std::shared_ptr<Inode>> inodes_;
  std::vector<struct Change> changes_;  ///< of names, not synced
  std::vector<std::string> directories_, locked_;
  bool lost_ = false;
};

}  // namespace april::test
