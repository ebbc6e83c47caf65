// Published policy versions: a directory of versions, each complete only with its manifest. Layout and manifest: formats/weights.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/tensor.h"

namespace april::weights {

struct Manifest {
  uint64_t version = 0;
  std::optional<uint64_t> base;  ///< version that a delta applies to; absent for full versions
  uint64_t digest = 0;           ///< of the manifest's canonical content: names the weights everywhere ("weights" in records)
  struct File {
    std::string name;
    uint64_t size = 0;
    uint64_t digest = 0;
  };
  struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
    uint64_t digest = 0;
  };
  std::vector<File> files;
  std::vector<Tensor> tensors;
};

struct Version {
  std::string directory;  ///< a Hugging Face model directory: config.json, tokenizer.json, …, model.safetensors
  Manifest manifest;
};

/// The version that LATEST names; nullopt when there is none yet. Cheap enough to poll each decode step (one small read when nothing changed).
class VersionStore {
 public:
  explicit VersionStore(std::string directory);
  std::optional<uint64_t> LatestVersion();
  /// Reads and checks the manifest (not the tensors' digests). Throws Runtime, Data.
  Version Open(uint64_t version);
  /// Checks all file and tensor digests. Throws Data naming file or tensor, seen and expected.
  void Verify(const Version& version);

  /// Writes a full version: `tensors` as one safetensors file, `sidecar_files` (config.json, tokenizer.json, …: paths) copied beside; then the
  /// manifest, then LATEST by rename. No fsync unless `durable`. Keeps the newest `keep` versions and removes older ones. Returns the manifest.
  Manifest Publish(uint64_t version, const std::vector<TensorView>& tensors, const std::vector<std::string>& sidecar_files, bool durable,
                   int64_t keep);

 private:
  std::string directory_;
};

}  // namespace april::weights
