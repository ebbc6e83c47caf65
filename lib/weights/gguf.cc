#include "weights/gguf.h"

#include <algorithm>
#include <unordered_set>

#include "base/bytes.h"
#include "base/error.h"

namespace april::weights {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kOldestVersion = 2, kNewestVersion = 3;
constexpr uint64_t kDefaultAlignment = 32;
constexpr int kMaxNesting = 4;
constexpr uint32_t kMaxDimensions = 4;

// Numbers of the file format: value types and tensor types.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

std::optional<DType> DTypeOf(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 2:
      return DType::kQ4_0;
    case 3:
      return DType::kQ4_1;
    case 8:
      return DType::kQ8_0;
    case 26:
      return DType::kI32;
    case 27:
      return DType::kI64;
    case 30:
      return DType::kBf16;
    default:
      return std::nullopt;
  }
}

/// Bytes that a value takes at least; 0 for an unknown type.
uint64_t MinBytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
    case kString:
      return 8;
    case kArray:
      return 12;
    default:
      return 0;
  }
}

bool IsInteger(uint32_t type) { return type <= kInt32 || type == kUint64 || type == kInt64; }

class Cursor {
 public:
  Cursor(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  [[noreturn]] void Fail(const std::string& what) const {
    throw Error::Data("GGUF file " + path_ + " is damaged at byte " + std::to_string(offset_) + ": " + what, "fetch or convert the file again");
  }
  std::string_view Bytes(uint64_t num_bytes, const char* what) {
    if (num_bytes > remaining()) {
      Fail(std::string(what) + " needs " + std::to_string(num_bytes) + " bytes, " + std::to_string(remaining()) + " are left");
    }
    const std::string_view view = bytes_.substr(offset_, num_bytes);
    offset_ += num_bytes;
    return view;
  }
  template <typename T>
  T Number(const char* what) {
    return LoadLe<T>(Bytes(sizeof(T), what).data());
  }
  std::string Text(const char* what) { return std::string(Bytes(Number<uint64_t>(what), what)); }
  bool Flag(const char* what) {
    const auto byte = Number<uint8_t>(what);
    if (byte > 1) Fail(std::string(what) + " is a truth value of " + std::to_string(byte));
    return byte == 1;
  }

 private:
  std::string_view bytes_;
  const std::string& path_;
  uint64_t offset_ = 0;
};

/// A u64 above int64_t's range is the only case that does not fit: nullopt with its value in *large.
std::optional<int64_t> ReadInteger(Cursor& in, uint32_t type, uint64_t* large) {
  switch (type) {
    case kUint8:
      return in.Number<uint8_t>("value");
    case kInt8:
      return in.Number<int8_t>("value");
    case kUint16:
      return in.Number<uint16_t>("value");
    case kInt16:
      return in.Number<int16_t>("value");
    case kUint32:
      return in.Number<uint32_t>("value");
    case kInt32:
      return in.Number<int32_t>("value");
    case kInt64:
      return in.Number<int64_t>("value");
    default:
      break;
  }
  *large = in.Number<uint64_t>("value");
  if (*large > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(*large);
}

double ReadReal(Cursor& in, uint32_t type) { return type == kFloat32 ? in.Number<float>("value") : in.Number<double>("value"); }

GgufValue ReadValue(Cursor& in, uint32_t type, int depth);

GgufValue ReadArray(Cursor& in, int depth) {
  const auto type = in.Number<uint32_t>("array type");
  const auto count = in.Number<uint64_t>("array length");
  const uint64_t min_bytes = MinBytes(type);
  if (min_bytes == 0) in.Fail("unknown array type " + std::to_string(type));
  if (count > in.remaining() / min_bytes) in.Fail("an array of " + std::to_string(count) + " elements cannot fit");
  const auto fill = [&](auto array, const auto& read) {
    array.reserve(count);
    for (uint64_t i = 0; i < count; ++i) array.push_back(read());
    return GgufValue{std::move(array)};
  };
  if (type == kString) return fill(GgufValue::Texts(), [&] { return in.Text("array element"); });
  if (type == kFloat32 || type == kFloat64) return fill(GgufValue::Reals(), [&] { return ReadReal(in, type); });
  if (type == kBool) return fill(GgufValue::Integers(), [&] { return static_cast<int64_t>(in.Flag("array element")); });
  if (IsInteger(type)) {
    return fill(GgufValue::Integers(), [&] {
      uint64_t large = 0;
      const auto value = ReadInteger(in, type, &large);
      if (!value) in.Fail("array element " + std::to_string(large) + " is out of range");
      return *value;
    });
  }
  return fill(GgufValue::Values(), [&] { return ReadValue(in, type, depth + 1); });
}

GgufValue ReadValue(Cursor& in, uint32_t type, int depth) {
  if (depth > kMaxNesting) in.Fail("arrays are nested more than " + std::to_string(kMaxNesting) + " deep");
  if (type == kArray) return ReadArray(in, depth);
  if (type == kString) return {in.Text("string")};
  if (type == kBool) return {in.Flag("value")};
  if (type == kFloat32 || type == kFloat64) return {ReadReal(in, type)};
  if (!IsInteger(type)) in.Fail("unknown value type " + std::to_string(type));
  uint64_t large = 0;
  if (const auto value = ReadInteger(in, type, &large)) return {*value};
  return {large};
}

/// What the header says about one tensor, before its data is located.
struct Info {
  GgufTensor tensor;
  uint64_t offset = 0;
};

Info ReadInfo(Cursor& in) {
  Info info;
  info.tensor.name = in.Text("tensor name");
  const auto num_dimensions = in.Number<uint32_t>("number of dimensions");
  if (num_dimensions > kMaxDimensions)
    in.Fail("tensor " + info.tensor.name + " has " + std::to_string(num_dimensions) + " dimensions, at most 4 are allowed");
  for (uint32_t i = 0; i < num_dimensions; ++i) {
    const auto dimension = in.Number<uint64_t>("dimension");
    if (dimension > static_cast<uint64_t>(INT64_MAX)) in.Fail("tensor " + info.tensor.name + " has a dimension of " + std::to_string(dimension));
    info.tensor.shape.insert(info.tensor.shape.begin(), static_cast<int64_t>(dimension));
  }
  info.tensor.ggml_type = in.Number<uint32_t>("tensor type");
  info.tensor.dtype = DTypeOf(info.tensor.ggml_type);
  info.offset = in.Number<uint64_t>("tensor offset");
  const auto elements = CheckedElements(info.tensor.shape);
  if (!elements) in.Fail("tensor " + info.tensor.name + " has an impossible shape " + ShapeText(info.tensor.shape));
  if (!info.tensor.dtype) return info;
  const BlockSize block = BlockOf(*info.tensor.dtype);
  const int64_t row = info.tensor.shape.empty() ? 1 : info.tensor.shape.back();
  if (row % block.num_elements != 0) {
    in.Fail("tensor " + info.tensor.name + " " + ShapeText(info.tensor.shape) + " has rows that are no multiple of " +
            std::to_string(block.num_elements));
  }
  if (__builtin_mul_overflow(static_cast<uint64_t>(*elements / block.num_elements), block.num_bytes, &info.tensor.num_bytes)) {
    in.Fail("tensor " + info.tensor.name + " has an impossible shape " + ShapeText(info.tensor.shape));
  }
  return info;
}

/// Points every tensor at its data: inside the file, aligned, overlapping no other.
std::vector<GgufTensor> Locate(std::vector<Info> infos, std::string_view bytes, uint64_t data_start, uint64_t alignment, const std::string& path) {
  const auto fail = [&](const Info& info, const std::string& what) -> Error {
    return Error::Data("GGUF file " + path + ": tensor " + info.tensor.name + " " + what, "the file may be cut short; fetch or convert it again");
  };
  const uint64_t data_size = bytes.size() - std::min<uint64_t>(data_start, bytes.size());
  std::vector<GgufTensor> tensors;
  std::vector<const Info*> by_offset;
  for (Info& info : infos) {
    if (info.offset % alignment != 0)
      throw fail(info, "starts at offset " + std::to_string(info.offset) + ", not a multiple of " + std::to_string(alignment));
    if (info.offset > data_size || info.tensor.num_bytes > data_size - info.offset) {
      throw fail(info, "needs " + std::to_string(info.tensor.num_bytes) + " bytes at offset " + std::to_string(info.offset) + ", but the data has " +
                           std::to_string(data_size));
    }
    info.tensor.data = bytes.data() + std::min<uint64_t>(data_start, bytes.size()) + info.offset;
    by_offset.push_back(&info);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const Info* a, const Info* b) {
    return std::pair(a->offset, a->offset + a->tensor.num_bytes) < std::pair(b->offset, b->offset + b->tensor.num_bytes);
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    if (by_offset[i - 1]->offset + by_offset[i - 1]->tensor.num_bytes > by_offset[i]->offset) {
      throw fail(*by_offset[i], "overlaps tensor " + by_offset[i - 1]->tensor.name);
    }
  }
  tensors.reserve(infos.size());
  for (Info& info : infos) tensors.push_back(std::move(info.tensor));
  return tensors;
}

void CheckVersion(uint32_t version, const std::string& path) {
  if (version >= kOldestVersion && version <= kNewestVersion) return;
  if ((version & 0xffff) == 0) throw Error::Incompatible("GGUF file " + path + " is big-endian; only little-endian files are read");
  throw Error::Incompatible("GGUF file " + path + " has version " + std::to_string(version) + "; versions 2 and 3 are read",
                            "convert the model again");
}

}  // namespace

GgufFile::GgufFile(const std::string& path) : file_(path) {
  Cursor in(file_.bytes(), file_.path());
  if (file_.bytes().substr(0, kMagic.size()) != kMagic) throw Error::Data(path + " is not a GGUF file: it does not start with \"GGUF\"");
  in.Bytes(kMagic.size(), "magic");
  version_ = in.Number<uint32_t>("version");
  CheckVersion(version_, path);
  const auto num_tensors = in.Number<uint64_t>("tensor count");
  const auto num_entries = in.Number<uint64_t>("metadata count");
  constexpr uint64_t kMinEntryBytes = 13, kMinInfoBytes = 24;
  if (num_entries > in.remaining() / kMinEntryBytes) in.Fail(std::to_string(num_entries) + " metadata entries cannot fit");
  if (num_tensors > in.remaining() / kMinInfoBytes) in.Fail(std::to_string(num_tensors) + " tensors cannot fit");

  std::unordered_set<std::string> names;
  metadata_.reserve(num_entries);
  for (uint64_t i = 0; i < num_entries; ++i) {
    std::string key = in.Text("metadata key");
    if (!names.insert(key).second) in.Fail("metadata key " + key + " appears twice");
    const auto type = in.Number<uint32_t>("value type");
    metadata_.emplace_back(std::move(key), ReadValue(in, type, 0));
  }
  names.clear();
  std::vector<Info> infos;
  infos.reserve(num_tensors);
  for (uint64_t i = 0; i < num_tensors; ++i) {
    infos.push_back(ReadInfo(in));
    if (!names.insert(infos.back().tensor.name).second) in.Fail("tensor " + infos.back().tensor.name + " appears twice");
  }
  const int64_t alignment = Integer("general.alignment").value_or(kDefaultAlignment);
  if (alignment <= 0 || alignment > (1 << 24)) in.Fail("general.alignment is " + std::to_string(alignment));
  const auto step = static_cast<uint64_t>(alignment);
  const uint64_t data_start = (in.offset() + step - 1) / step * step;
  tensors_ = Locate(std::move(infos), file_.bytes(), data_start, step, file_.path());
}

bool GgufFile::LooksLikeOne(const std::string& path) {
  try {
    char magic[4] = {};
    return SystemFiles().OpenForRead(path)->ReadAt(0, magic, sizeof magic) == sizeof magic && std::string_view(magic, sizeof magic) == kMagic;
  } catch (const Error&) {
    return false;
  }
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  for (const GgufTensor& tensor : tensors_) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  for (const auto& [name, value] : metadata_) {
    if (name == key) return &value;
  }
  return nullptr;
}

template <typename T>
const T* GgufFile::Typed(std::string_view key, const char* wanted) const {
  const GgufValue* value = Find(key);
  if (!value) return nullptr;
  const T* typed = std::get_if<T>(&value->held);
  if (!typed) {
    static constexpr const char* kNames[] = {"a truth value",
                                             "a whole number",
                                             "a large whole number",
                                             "a real number",
                                             "a string",
                                             "an array of whole numbers",
                                             "an array of real numbers",
                                             "an array of strings",
                                             "an array of arrays"};
    throw Error::Data("GGUF file " + path() + ": metadata key " + std::string(key) + " is " + kNames[value->held.index()] + ", expected " + wanted);
  }
  return typed;
}

std::optional<bool> GgufFile::Flag(std::string_view key) const {
  const bool* value = Typed<bool>(key, "a truth value");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<int64_t> GgufFile::Integer(std::string_view key) const {
  const int64_t* value = Typed<int64_t>(key, "a whole number");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> GgufFile::Real(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value && std::holds_alternative<int64_t>(value->held)) return static_cast<double>(std::get<int64_t>(value->held));
  const double* real = Typed<double>(key, "a number");
  return real ? std::optional(*real) : std::nullopt;
}

const std::string* GgufFile::Text(std::string_view key) const { return Typed<std::string>(key, "a string"); }
const GgufValue::Integers* GgufFile::Integers(std::string_view key) const { return Typed<GgufValue::Integers>(key, "an array of whole numbers"); }
const GgufValue::Reals* GgufFile::Reals(std::string_view key) const { return Typed<GgufValue::Reals>(key, "an array of real numbers"); }
const GgufValue::Texts* GgufFile::Texts(std::string_view key) const { return Typed<GgufValue::Texts>(key, "an array of strings"); }

}  // namespace april::weights
