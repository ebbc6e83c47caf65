#include "weights/model_files.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "weights/architecture.h"
#include "weights/convert.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

namespace april::weights {
namespace {

Json ParseJsonFile(const std::string& path) {
  try {
    return Json::parse(ReadFile(SystemFiles(), path));
  } catch (const Json::parse_error& error) {
    throw Error::Data(path + ": no valid JSON at byte " + std::to_string(error.byte));
  }
}

const TensorView& Need(const ModelFiles& files, const std::string& name) {
  const TensorView* view = files.Find(name);
  if (!view) throw Error::Data(files.path() + ": tensor " + name + " is missing", "the download may be incomplete; fetch the model again");
  return *view;
}

void CheckShape(const ModelFiles& files, const TensorView& view, const std::vector<int64_t>& expected) {
  if (view.shape == expected) return;
  throw Error::Data(files.path() + ": tensor " + view.name + " has shape " + ShapeText(view.shape) + ", expected " + ShapeText(expected),
                    "config.json and the weights may be of different models");
}

void CheckExpected(const ModelFiles& files, const std::vector<ExpectedTensor>& expected) {
  for (const ExpectedTensor& tensor : expected) CheckShape(files, Need(files, tensor.name), tensor.shape);
}

bool ByName(const TensorView& a, const TensorView& b) { return a.name < b.name; }

// A directory as transformers saves it.
class HfDirectory final : public ModelFiles {
 public:
  explicit HfDirectory(const std::string& path) : path_(path), config_(ParseJsonFile(JoinPath(path, "config.json"))) {
    if (!config_.is_object()) throw Error::Data(path + "/config.json is no JSON object");
    const auto expected = ExpectedTensors(config_, path + "/config.json");
    for (const std::string& name : WeightFiles(path)) files_.emplace_back(JoinPath(path, name));
    for (const SafetensorsFile& file : files_) tensors_.insert(tensors_.end(), file.tensors().begin(), file.tensors().end());
    std::sort(tensors_.begin(), tensors_.end(), ByName);
    const auto twice =
        std::adjacent_find(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) { return a.name == b.name; });
    if (twice != tensors_.end())
      throw Error::Data(path + ": tensor " + twice->name + " is in two files", "remove the weight files that do not belong to the model");
    CheckExpected(*this, expected);
  }

  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  void Read(const std::string& name, const std::vector<int64_t>& shape, DType dtype, void* out) const override {
    const TensorView& view = Need(*this, name);
    CheckShape(*this, view, shape);
    try {
      Convert(view.dtype, view.data, view.NumElements(), dtype, out);
    } catch (const Error& error) {
      throw error.Within(path_ + ": tensor " + name);
    }
  }

 private:
  /// One file; or the shards that an index names; or, as indexes are not always right, whatever weight files there are.
  static std::vector<std::string> WeightFiles(const std::string& path) {
    FileSystem& files = SystemFiles();
    if (files.Exists(JoinPath(path, "model.safetensors"))) return {"model.safetensors"};
    const std::string index_path = JoinPath(path, "model.safetensors.index.json");
    if (files.Exists(index_path)) return ShardsOf(ParseJsonFile(index_path), index_path);
    std::vector<std::string> names;
    for (const std::string& name : files.List(path)) {
      if (name.ends_with(".safetensors")) names.push_back(name);
    }
    if (names.empty()) {
      throw Error::Runtime(path + ": no safetensors file in this directory",
                           "pickled checkpoints are not read: save the model with safetensors, or give a .gguf file");
    }
    return names;
  }

  static std::vector<std::string> ShardsOf(const Json& index, const std::string& index_path) {
    std::set<std::string> names;
    const auto map = index.find("weight_map");
    if (map == index.end() || !map->is_object() || map->empty()) throw Error::Data(index_path + ": no weight_map");
    for (const auto& [tensor, shard] : map->items()) {
      const std::string name = shard.is_string() ? shard.get<std::string>() : "";
      if (name.empty() || name.find('/') != std::string::npos)
        throw Error::Data(index_path + ": tensor " + tensor + " names no shard of this directory: " + shard.dump());
      names.insert(name);
    }
    for (const std::string& name : names) {
      if (!SystemFiles().Exists(JoinPath(DirectoryOf(index_path), name))) {
        throw Error::Data(index_path + " names " + name + ", which is missing", "the download may be incomplete; fetch the model again");
      }
    }
    return {names.begin(), names.end()};
  }

  std::string path_;
  Json config_;
  std::vector<SafetensorsFile> files_;
  std::vector<TensorView> tensors_;
};

class GgufModel final : public ModelFiles {
 public:
  explicit GgufModel(const std::string& path) : file_(path), config_(ConfigOfGguf(file_)) {
    std::map<std::string, const GgufTensor*> unused;
    for (const GgufTensor& tensor : file_.tensors()) unused[tensor.name] = &tensor;
    unused.erase("rope_freqs.weight");  // is in the configuration
    for (const ExpectedTensor& expected : ExpectedTensors(config_, "GGUF file " + path)) {
      const auto it = unused.find(expected.gguf_name);
      if (it == unused.end())
        throw Error::Data("GGUF file " + path + ": tensor " + expected.gguf_name + " is missing", "fetch or convert the file again");
      Add(expected, *it->second);
      unused.erase(it);
    }
    if (!unused.empty()) throw Error::Incompatible("GGUF file " + path + ": tensor " + unused.begin()->first + " is unknown to this architecture");
    std::sort(tensors_.begin(), tensors_.end(), ByName);
  }

  const std::string& path() const override { return file_.path(); }
  const Json& config() const override { return config_; }
  const std::vector<TensorView>& tensors() const override { return tensors_; }

  void Read(const std::string& name, const std::vector<int64_t>& shape, DType dtype, void* out) const override {
    const TensorView& view = Need(*this, name);
    CheckShape(*this, view, shape);
    const Source& source = sources_.at(name);
    if (source.permuted_heads == 0) {
      Convert(view.dtype, source.data, view.NumElements(), dtype, out);
    } else {
      ReadPermuted(view, source, dtype, static_cast<char*>(out));
    }
  }

 private:
  struct Source {
    const void* data;
    int64_t permuted_heads;
  };

  void Add(const ExpectedTensor& expected, const GgufTensor& tensor) {
    if (!tensor.dtype ||
        !(BlockOf(*tensor.dtype).num_elements > 1 || *tensor.dtype == DType::kF32 || *tensor.dtype == DType::kF16 || *tensor.dtype == DType::kBf16)) {
      throw Error::Incompatible("GGUF file " + path() + ": tensor " + tensor.name + " has type number " + std::to_string(tensor.ggml_type) +
                                    "; F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are read",
                                "take a file of one of these types");
    }
    if (tensor.shape != expected.shape) {
      throw Error::Data("GGUF file " + path() + ": tensor " + tensor.name + " has shape " + ShapeText(tensor.shape) + ", expected " +
                        ShapeText(expected.shape));
    }
    if (expected.permuted_heads > 0 && (expected.shape[0] / expected.permuted_heads) % 2 != 0) {
      throw Error::Data("GGUF file " + path() + ": tensor " + tensor.name + " has heads of an odd size");
    }
    sources_[expected.name] = {tensor.data, expected.permuted_heads};
    tensors_.push_back({expected.name, *tensor.dtype, tensor.shape, expected.permuted_heads > 0 ? nullptr : tensor.data, tensor.num_bytes});
  }

  /// Within a head of 2n rows the file has rows 0, n, 1, n + 1, … of the original.
  static void ReadPermuted(const TensorView& view, const Source& source, DType dtype, char* out) {
    const int64_t columns = view.shape[1], head_rows = view.shape[0] / source.permuted_heads, half = head_rows / 2;
    const BlockSize block = BlockOf(view.dtype);
    const uint64_t in_bytes = static_cast<uint64_t>(columns / block.num_elements) * block.num_bytes;
    const uint64_t out_bytes = static_cast<uint64_t>(columns) * BlockOf(dtype).num_bytes;
    for (int64_t row = 0; row < view.shape[0]; ++row) {
      const int64_t head = row / head_rows, i = row % head_rows / half, j = row % half;
      const auto stored = static_cast<uint64_t>(head * head_rows + 2 * j + i);
      Convert(view.dtype, static_cast<const char*>(source.data) + stored * in_bytes, columns, dtype, out + static_cast<uint64_t>(row) * out_bytes);
    }
  }

  GgufFile file_;
  Json config_;
  std::vector<TensorView> tensors_;
  std::map<std::string, Source> sources_;
};

}  // namespace

const TensorView* ModelFiles::Find(const std::string& name) const {
  const auto& all = tensors();
  const auto it =
      std::lower_bound(all.begin(), all.end(), name, [](const TensorView& view, const std::string& wanted) { return view.name < wanted; });
  return it != all.end() && it->name == name ? &*it : nullptr;
}

std::unique_ptr<ModelFiles> ModelFiles::Open(const std::string& path) {
  if (GgufFile::LooksLikeOne(path) || path.ends_with(".gguf")) return std::make_unique<GgufModel>(path);
  FileSystem& files = SystemFiles();
  if (files.Exists(JoinPath(path, "config.json"))) return std::make_unique<HfDirectory>(path);
  if (!files.Exists(path)) throw Error::Runtime("no model at " + path + ": no such file or directory");
  const std::string below = LastWith(files, path, "config.json");
  throw Error::Runtime(path + " is no model: neither a GGUF file nor a directory with config.json",
                       below.empty() ? "give a Hugging Face model directory or a .gguf file" : "did you mean " + below + "?");
}

}  // namespace april::weights
