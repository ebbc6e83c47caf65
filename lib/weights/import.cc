#include "weights/import.h"

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "weights/architecture.h"

namespace april::weights {
namespace {

/// Says what the published tensors are; transformers 5 calls the key dtype, older ones torch_dtype.
std::string ConfigText(Json config) {
  const char* key = config.contains("dtype") ? "dtype" : "torch_dtype";
  config[key] = "bfloat16";
  return config.dump(2) + "\n";
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::error_code error;
  const std::filesystem::path base = std::filesystem::temp_directory_path(error);
  path_ = (error ? std::filesystem::path("/tmp") : base) / "april-XXXXXX";
  if (!::mkdtemp(path_.data())) throw Error::System("cannot make a temporary directory", path_, errno);
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Manifest Import(const ModelFiles& model, const std::vector<std::string>& tokenizer_files, VersionStore* store, uint64_t version,
                PublishOptions options) {
  std::vector<TensorView> tensors;
  for (const ExpectedTensor& expected : ExpectedTensors(model.config(), model.path())) {
    const TensorView* stored = model.Find(expected.name);
    if (!stored) throw Error::Data(model.path() + ": tensor " + expected.name + " is missing");
    TensorView view{expected.name, DType::kBf16, expected.shape, nullptr, 0};
    view.num_bytes = static_cast<uint64_t>(view.NumElements()) * BlockOf(DType::kBf16).num_bytes;
    if (stored->dtype == DType::kBf16) view.data = stored->data;  // null where the rows are permuted
    tensors.push_back(std::move(view));
  }
  std::vector<uint16_t> converted;
  options.load = [&](const TensorView& view) -> const void* {
    converted.resize(view.num_bytes / sizeof(uint16_t));
    model.Read(view.name, view.shape, DType::kBf16, converted.data());
    return converted.data();
  };
  const TemporaryDirectory scratch;
  std::vector<std::string> sidecar_files = tokenizer_files;
  sidecar_files.push_back(JoinPath(scratch.path(), "config.json"));
  ReplaceFile(SystemFiles(), sidecar_files.back(), ConfigText(model.config()), false);
  return store->Publish(version, tensors, sidecar_files, options);
}

}  // namespace april::weights
