// The safetensors format: a u64 header length, a JSON header, the tensors' bytes.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "weights/tensor.h"

namespace april::weights {

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// Owns the mapping; the views live as long as it does. Immutable: may be shared between threads.
class SafetensorsFile {
 public:
  /// Checks everything that the format promises: header size and JSON, no key twice, tensors without holes or overlaps that fill the file exactly.
  /// Throws Runtime (cannot read), Data (damaged), Incompatible (a dtype that this build cannot read).
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<TensorView>& tensors() const { return tensors_; }  ///< sorted by name
  const SafetensorsMetadata& metadata() const { return metadata_; }
  std::string_view bytes() const { return file_.bytes(); }

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  SafetensorsMetadata metadata_;
};

/// What a safetensors file starts with, and the order in which the tensors' bytes follow.
struct SafetensorsLayout {
  std::string head;           ///< length and header, padded so that the data starts at a multiple of 8
  std::vector<size_t> order;  ///< indices of the tensors: widest element first, then by name
  uint64_t data_bytes = 0;
};

/// The layout depends only on names, dtypes, shapes and metadata. Uses no data pointer.
/// Throws Usage when a name appears twice, is "__metadata__", or a size does not fit its shape.
SafetensorsLayout LayOutSafetensors(const std::vector<TensorView>& tensors, const SafetensorsMetadata& metadata);

}  // namespace april::weights
