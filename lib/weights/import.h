// A model as users have it becomes a full version: bf16, Hugging Face names, its configuration beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "weights/model_files.h"
#include "weights/version_store.h"

namespace april::weights {

/// A new directory under TMPDIR (else /tmp), removed with its files when destroyed.
class TemporaryDirectory {
 public:
  TemporaryDirectory();  ///< throws Runtime
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Publishes the tensors that the model's architecture has (and no others), rounded to bf16, one after the other; config.json says bfloat16.
/// `tokenizer_files` are copied beside. The same weights give the same digest whatever file they came from. Throws as VersionStore::Publish.
Manifest Import(const ModelFiles& model, const std::vector<std::string>& tokenizer_files, VersionStore* store, uint64_t version,
                PublishOptions options);

/// The digest of the model's weights as a network that computes in `dtype` uses them; what is stored as bf16 counts as that. For kBf16 it is that of
/// the version that Import makes.   Cost  reads all weights; `each` runs a task for [0, count), on several threads if it likes.   Throws Data.
uint64_t WeightsDigestOf(const ModelFiles& model, DType dtype,
                         const std::function<void(int64_t count, const std::function<void(int64_t)>& task)>& each);

}  // namespace april::weights
