// Published policy versions: a directory of versions, each complete only with its manifest. Layout, rules and digests: formats/weights.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "weights/manifest.h"
#include "weights/tensor.h"

namespace april::weights {

struct Version {
  std::string directory;  ///< a Hugging Face model directory: config.json, tokenizer.json, …, model.safetensors
  Manifest manifest;
};

struct PublishOptions {
  bool durable = false;    ///< fsync files and directories before LATEST moves
  int64_t keep = 4;        ///< newest versions that stay, at least 1
  bool supersede = false;  ///< replace a version of this number that has other weights, and remove all later ones
  /// Gives the data of a tensor whose view has none; it needs to stay only until the next call.
  std::function<const void*(const TensorView&)> load;
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
};

/// One object, one thread; any number of processes may read, one may write.
class VersionStore {
 public:
  /// The directory need not be there yet. Throws Usage when it is a buffer, a checkpoint or a single version: nobody finds versions in it.
  explicit VersionStore(std::string directory, FileSystem& files = SystemFiles());
  const std::string& directory() const { return directory_; }

  /// The version that LATEST names; nullopt when there is none yet. Cheap enough to poll each decode step (one small read).
  /// Throws Data when LATEST is damaged.
  std::optional<uint64_t> LatestVersion();
  /// Numbers of the versions that have a manifest, ascending.
  std::vector<uint64_t> Versions();
  bool HasVersion(uint64_t version) const;  ///< true also when it cannot be looked at
  /// Reads and checks the manifest (not the tensors' digests). Throws Runtime (no such version), Data, Incompatible.
  Version Open(uint64_t version);
  /// Checks all file and tensor digests. Throws Data naming file or tensor, seen and expected (a listed file that is missing is damage too), Runtime
  /// when a file cannot be read.
  void Verify(const Version& version);
  /// The same of every file, told instead of thrown; empty: all is well. Tensors are looked at when all files are well.
  std::vector<Error> Problems(const Version& version);

  /// Writes a full version: `tensors` as one safetensors file, `sidecar_files` (config.json, tokenizer.json, …: paths) copied beside; then the
  /// manifest, then LATEST by rename. No fsync unless durable. Keeps the newest `keep` versions and removes older ones. Returns the manifest. The
  /// same weights again under the same number change nothing. Throws Runtime (disk full, someone else is writing; LATEST is then the old one),
  /// Incompatible (the number is taken by other weights).
  Manifest Publish(uint64_t version, const std::vector<TensorView>& tensors, const std::vector<std::string>& sidecar_files,
                   const PublishOptions& options);
  Manifest Publish(uint64_t version, const std::vector<TensorView>& tensors, const std::vector<std::string>& sidecar_files, bool durable,
                   int64_t keep);

  /// What publishing and fetching share. Only while `lock` is held:
  std::unique_ptr<FileLock> LockForWriting();  ///< throws Runtime when someone else has it
  std::string PartialDirectory(uint64_t version) const;
  void RemovePartials(const std::string& except);  ///< `except`: a directory's path that stays
  /// Gives the partial directory, whose manifest is in place, its final name, moves LATEST, removes old versions.
  void Complete(const Manifest& manifest, const PublishOptions& options);
  /// Whether this version is there already, whole and with these weights; if so LATEST is moved as by Complete. Throws Incompatible when its weights
  /// are others and they may not be superseded. Needs only number and digest of `wanted`.
  bool Settled(const Manifest& wanted, const PublishOptions& options);

 private:
  std::string VersionDirectory(uint64_t version) const;
  void MakeLatest(uint64_t version, const PublishOptions& options);
  void RemoveVersion(uint64_t version);
  void RemoveTree(const std::string& path);

  std::string directory_;
  FileSystem* files_;
};

/// "v00000012"
std::string DirectoryName(uint64_t version);

/// Checks the files in `directory` against the manifest. Throws Data naming file or tensor, seen and expected.
void VerifyFiles(FileSystem& files, const std::string& directory, const Manifest& manifest,
                 const std::function<void(uint64_t done_bytes)>& progress = {});
/// Only what model.safetensors holds, tensor by tensor.
void VerifyTensors(const std::string& directory, const Manifest& manifest);

}  // namespace april::weights
