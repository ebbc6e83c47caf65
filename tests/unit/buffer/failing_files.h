// The machine's files, with a disk that is full or fails.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace april::test {

/// Files whose writes fail beyond a number of bytes, as on a full disk, or whose syncs fail.
class FailingFiles : public FileSystem {
 public:
  int64_t room = 1 << 30;
  std::atomic<int> syncs_to_pass = 0;  ///< the next so many, before …
  std::atomic<int> syncs_to_fail = 0;  ///< … so many fail
  std::unique_ptr<WritableFile> Create(const std::string& path) override { return Wrap(SystemFiles().Create(path)); }
  std::unique_ptr<WritableFile> OpenForAppend(const std::string& path) override { return Wrap(SystemFiles().OpenForAppend(path)); }
  std::unique_ptr<ReadableFile> OpenForRead(const std::string& path) override { return SystemFiles().OpenForRead(path); }
  void Rename(const std::string& from, const std::string& to) override {
    SystemFiles().Rename(from, to);
    set_aside_[to] = std::exchange(set_aside_[from], 0);
  }
  void Remove(const std::string& path) override {
    SystemFiles().Remove(path);
    room += static_cast<int64_t>(std::exchange(set_aside_[path], 0));
  }
  void Allocate(const std::string& path, uint64_t num_bytes) override {
    if (room < static_cast<int64_t>(num_bytes)) throw Error::System("cannot set aside", path, ENOSPC);
    FileSystem::Allocate(path, num_bytes);
    room -= static_cast<int64_t>(num_bytes);
    set_aside_[path] = num_bytes;
  }
  void SyncDirectory(const std::string& path) override { SystemFiles().SyncDirectory(path); }
  void MakeDirectory(const std::string& path) override { SystemFiles().MakeDirectory(path); }
  bool Exists(const std::string& path) override { return SystemFiles().Exists(path); }
  std::vector<std::string> List(const std::string& path) override { return SystemFiles().List(path); }
  std::unique_ptr<FileLock> Lock(const std::string& path, int64_t timeout_ms) override { return SystemFiles().Lock(path, timeout_ms); }

 private:
  class File : public WritableFile {
   public:
    File(FailingFiles& files, std::unique_ptr<WritableFile> file) : files_(files), file_(std::move(file)) {}
    void Append(const void* data, size_t num_bytes) override {
      const auto fits = static_cast<size_t>(std::min<int64_t>(files_.room, static_cast<int64_t>(num_bytes)));
      file_->Append(data, fits);
      files_.room -= static_cast<int64_t>(fits);
      if (fits < num_bytes) throw Error::System("cannot write", "file", ENOSPC);
    }
    void Sync() override {
      if (files_.syncs_to_pass > 0) {
        --files_.syncs_to_pass;
      } else if (files_.syncs_to_fail > 0) {
        --files_.syncs_to_fail;
        throw Error::System("cannot sync", "file", EIO);
      }
      file_->Sync();
    }
    void Truncate(uint64_t size) override {
      files_.room += static_cast<int64_t>(file_->Size()) - static_cast<int64_t>(size);
      file_->Truncate(size);
    }
    uint64_t Size() const override { return file_->Size(); }
    void Close() override { file_->Close(); }

   private:
    FailingFiles& files_;
    std::unique_ptr<WritableFile> file_;
  };
  std::unique_ptr<WritableFile> Wrap(std::unique_ptr<WritableFile> file) { return std::make_unique<File>(*this, std::move(file)); }
  std::map<std::string, uint64_t> set_aside_;
};

}  // namespace april::test
