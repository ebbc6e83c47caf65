#include "weights/import.h"

#include <cstdlib>
#include <filesystem>

#include "base/digest.h"
#include "base/error.h"
#include "weights/architecture.h"
#include "weights/manifest.h"

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

namespace {

/// Views of the tensors that the architecture has, in `dtype`; without data where they have to be converted.
std::vector<TensorView> ViewsIn(const ModelFiles& model, const std::function<DType(DType stored)>& dtype_of) {
  std::vector<TensorView> tensors;
  for (const ExpectedTensor& expected : ExpectedTensors(model.config(), model.path())) {
    const TensorView* stored = model.Find(expected.name);
    if (!stored) throw Error::Data(model.path() + ": tensor " + expected.name + " is missing");
    const DType dtype = dtype_of(stored->dtype);
    TensorView view{expected.name, dtype, expected.shape, nullptr, 0};
    view.num_bytes = static_cast<uint64_t>(view.NumElements()) * BlockOf(dtype).num_bytes;
    if (stored->dtype == dtype) view.data = stored->data;  // null where the rows are permuted
    tensors.push_back(std::move(view));
  }
  return tensors;
}

}  // namespace

Manifest Import(const ModelFiles& model, const std::vector<std::string>& tokenizer_files, VersionStore* store, uint64_t version,
                PublishOptions options) {
  const std::vector<TensorView> tensors = ViewsIn(model, [](DType) { return DType::kBf16; });
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

uint64_t WeightsDigestOf(const ModelFiles& model, DType dtype,
                         const std::function<void(int64_t count, const std::function<void(int64_t)>& task)>& each) {
  const std::vector<TensorView> tensors = ViewsIn(model, [&](DType stored) { return stored == DType::kBf16 ? stored : dtype; });
  std::vector<Manifest::Tensor> digested(tensors.size());
  each(static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const TensorView& view = tensors[static_cast<size_t>(i)];
    std::vector<char> converted(view.data ? 0 : view.num_bytes);
    if (!view.data) model.Read(view.name, view.shape, view.dtype, converted.data());
    digested[static_cast<size_t>(i)] = {view.name, Name(view.dtype), view.shape, Digest(view.data ? view.data : converted.data(), view.num_bytes)};
  });
  return WeightsDigest(std::move(digested));
}

}  // namespace april::weights
