// Small models and files made by the tests themselves.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "weights/tensor.h"

namespace april::weights::test {

/// A directory that is removed with its contents.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void WriteText(const std::string& path, const std::string& contents);

/// The error that `action` throws; fails the test when it throws none.
Error ErrorOf(const std::function<void()>& action);

/// Builds the bytes of a GGUF file.
class GgufBuilder {
 public:
  void Text(const std::string& key, const std::string& value);
  void Uint32(const std::string& key, uint32_t value);
  void Float32(const std::string& key, float value);
  void Bool(const std::string& key, bool value);
  void Texts(const std::string& key, const std::vector<std::string>& values);
  void Int32s(const std::string& key, const std::vector<int32_t>& values);
  void Raw(const std::string& key, uint32_t type, const std::string& bytes);
  /// `shape` outermost first; `data` in the type's blocks.
  void Tensor(const std::string& name, std::vector<int64_t> shape, uint32_t ggml_type, const std::string& data);
  std::string Bytes(uint32_t version = 3) const;

  static constexpr uint32_t kAlignment = 32;

 private:
  struct Item {
    std::string name;
    std::vector<int64_t> shape;
    uint32_t type;
    std::string data;
  };
  std::string metadata_;
  uint64_t num_entries_ = 0;
  std::vector<Item> tensors_;
};

uint32_t GgmlType(DType dtype);

/// Random stored bytes of a type: every bit pattern for the quants, finite halves for scales.
std::string RandomStored(DType dtype, int64_t num_elements, std::mt19937_64& rng);

/// What the stored bytes mean, element by element, in double; an independent, slow reading of the formats.
std::vector<double> Meaning(DType dtype, const std::string& stored);

struct TinyShape {
  int64_t vocab = 64, hidden = 32, layers = 2, heads = 4, kv_heads = 2, intermediate = 64;
};

/// A complete GGUF model of the architecture ("llama", "qwen2", "qwen3") with matrices of the type.
GgufBuilder TinyGguf(const std::string& architecture, DType matrices, const TinyShape& shape, uint64_t seed);

/// config.json and the tensors (bf16) of a tiny Llama directory.
std::string TinyConfig(const TinyShape& shape);
std::vector<std::pair<TensorView, std::string>> TinyTensors(const TinyShape& shape, uint64_t seed);  ///< views without data, and the data
void WriteTinyDirectory(const std::string& path, const TinyShape& shape, uint64_t seed);

/// A safetensors file of the tensors.
std::string SafetensorsBytes(const std::vector<std::pair<TensorView, std::string>>& tensors);

}  // namespace april::weights::test
