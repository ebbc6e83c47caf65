// What a published version is made of. The document is formats/weights.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace april::weights {

struct Manifest {
  uint64_t version = 0;
  std::optional<uint64_t> base;  ///< version that a delta applies to; absent for full versions
  uint64_t digest = 0;           ///< of the tensors' names, dtypes, shapes and bytes: names the weights everywhere ("weights" in records)
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
  std::vector<File> files;      ///< sorted by name
  std::vector<Tensor> tensors;  ///< sorted by name

  uint64_t TotalBytes() const;  ///< of the files
};

/// The digest that names the weights.   Source  formats/weights.md, "The version's digest".
uint64_t WeightsDigest(std::vector<Manifest::Tensor> tensors);

std::string ManifestText(const Manifest& manifest);

/// `subject` names the source in messages. Throws Data (not a manifest, a dangerous file name, digest does not fit the tensors), Incompatible
/// (format).
Manifest ParseManifest(std::string_view text, const std::string& subject);

}  // namespace april::weights
