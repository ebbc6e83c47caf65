// GGUF v2 and v3: metadata and tensors of a mapped file. Every length and offset is checked against the file before it is used.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/file.h"
#include "weights/tensor.h"

namespace april::weights {

/// A metadata value. Whole numbers of any width are held as int64_t (uint64_t beyond its range), f32 and f64 as double; arrays are typed likewise,
/// and an array of arrays is a list of values.
struct GgufValue {
  using Integers = std::vector<int64_t>;
  using Reals = std::vector<double>;
  using Texts = std::vector<std::string>;
  using Values = std::vector<GgufValue>;
  std::variant<bool, int64_t, uint64_t, double, std::string, Integers, Reals, Texts, Values> held;
};

struct GgufTensor {
  std::string name;            ///< as in the file: "blk.0.attn_q.weight"
  uint32_t ggml_type = 0;      ///< number in the file
  std::optional<DType> dtype;  ///< absent for a type that this build cannot read
  std::vector<int64_t> shape;  ///< outermost first (the file has it innermost first)
  const void* data = nullptr;  ///< in the mapping
  uint64_t num_bytes = 0;      ///< 0 when dtype is absent
};

/// Owns the mapping; everything that it returns lives as long as it does. Immutable: may be shared between threads.
class GgufFile {
 public:
  /// Throws Runtime (cannot read), Data (damaged, with offset), Incompatible (version, byte order).
  explicit GgufFile(const std::string& path);

  /// Whether the file starts with GGUF's magic; false for anything that cannot be read.
  static bool LooksLikeOne(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint32_t version() const { return version_; }
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }  ///< in the file's order
  const std::vector<GgufTensor>& tensors() const { return tensors_; }                           ///< in the file's order
  const GgufTensor* FindTensor(std::string_view name) const;

  /// nullptr when the key is absent.
  const GgufValue* Find(std::string_view key) const;
  // Typed access. Absent key: nullopt or nullptr. Throws Data, naming file, key and type, when the value is of another type.
  std::optional<bool> Flag(std::string_view key) const;
  std::optional<int64_t> Integer(std::string_view key) const;
  std::optional<double> Real(std::string_view key) const;  ///< any number
  const std::string* Text(std::string_view key) const;
  const GgufValue::Integers* Integers(std::string_view key) const;
  const GgufValue::Reals* Reals(std::string_view key) const;
  const GgufValue::Texts* Texts(std::string_view key) const;

 private:
  template <typename T>
  const T* Typed(std::string_view key, const char* wanted) const;

  MappedFile file_;
  uint32_t version_ = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace april::weights
