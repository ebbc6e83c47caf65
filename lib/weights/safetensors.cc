#include "weights/safetensors.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <unordered_set>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

namespace april::weights {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr const char* kMetadataKey = "__metadata__";
constexpr size_t kMaxArrayLength = 64;

/// One entry of the header, before it is checked.
struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<uint64_t>> shape, offsets;
};

/// Reads the header's JSON event by event: keys that appear twice, which a document tree would hide, are seen, and nesting is bounded.
class HeaderParser final : public nlohmann::json_sax<Json> {
 public:
  std::vector<Entry> entries;
  SafetensorsMetadata metadata;
  std::string problem;

  bool start_object(size_t) override {
    if (++depth_ == 1) return true;
    return depth_ == 2 && numbers_ == nullptr ? true : Fail("nested objects");
  }
  bool end_object() override {
    if (--depth_ == 1) return FinishEntry();
    return true;
  }
  bool key(string_t& key) override {
    key_ = key;
    if (depth_ == 1) {
      keys_.clear();
      if (!names_.insert(key).second) return Fail("\"" + key + "\" appears twice");
      in_metadata_ = key == kMetadataKey;
      if (!in_metadata_) entries.push_back({key, {}, {}, {}});
      return true;
    }
    if (!keys_.insert(key).second) return Fail("\"" + key + "\" appears twice in one entry");
    if (!in_metadata_ && key != "dtype" && key != "shape" && key != "data_offsets") return Fail("unknown key \"" + key + "\"");
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != 2 || numbers_) return Fail("unexpected string");
    if (in_metadata_) {
      metadata.emplace_back(key_, text);
      return true;
    }
    if (key_ != "dtype") return Fail("\"" + key_ + "\" is a string");
    entries.back().dtype = text;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_metadata_ || numbers_ || key_ == "dtype") return Fail("unexpected array");
    auto& numbers = key_ == "shape" ? entries.back().shape : entries.back().offsets;
    numbers_ = &numbers.emplace();
    return true;
  }
  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!numbers_) return Fail("unexpected number");
    if (numbers_->size() >= kMaxArrayLength) return Fail("more than " + std::to_string(kMaxArrayLength) + " numbers in an array");
    numbers_->push_back(value);
    return true;
  }
  bool number_integer(number_integer_t) override { return Fail("negative number"); }
  bool number_float(number_float_t, const string_t& text) override { return Fail("number " + text); }
  bool null() override { return Fail("null"); }
  bool boolean(bool) override { return Fail("unexpected truth value"); }
  bool binary(binary_t&) override { return Fail("unexpected binary value"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail("no valid JSON at byte " + std::to_string(8 + position));
  }

 private:
  bool Fail(const std::string& what) {
    problem = what + (names_.empty() || key_.empty() ? "" : " (at \"" + key_ + "\")");
    return false;
  }
  bool FinishEntry() {
    if (in_metadata_) return true;
    const Entry& entry = entries.back();
    if (entry.dtype && entry.shape && entry.offsets && entry.offsets->size() == 2) return true;
    return Fail("tensor " + entry.name + " lacks dtype, shape or two data_offsets");
  }

  int depth_ = 0;
  bool in_metadata_ = false;
  std::string key_;
  std::vector<uint64_t>* numbers_ = nullptr;
  std::unordered_set<std::string> names_, keys_;
};

/// Dimensions as they are held; nullopt when one leaves int64_t.
std::optional<std::vector<int64_t>> Dimensions(const std::vector<uint64_t>& numbers) {
  std::vector<int64_t> shape;
  for (const uint64_t number : numbers) {
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    shape.push_back(static_cast<int64_t>(number));
  }
  return shape;
}

/// Bytes of a tensor of one element a block; nullopt on overflow.
std::optional<uint64_t> ByteSize(const std::vector<int64_t>& shape, DType dtype) {
  const auto elements = CheckedElements(shape);
  uint64_t num_bytes = 0;
  if (!elements || __builtin_mul_overflow(static_cast<uint64_t>(*elements), BlockOf(dtype).num_bytes, &num_bytes)) return std::nullopt;
  return num_bytes;
}

TensorView ViewOf(const Entry& entry, std::string_view data, const std::string& path) {
  const auto fail = [&](const std::string& what) { return Error::Data("safetensors file " + path + ": tensor " + entry.name + " " + what); };
  const auto dtype = ParseDType(*entry.dtype);
  if (!dtype || BlockOf(*dtype).num_elements != 1) {
    throw Error::Incompatible(
        "safetensors file " + path + ": tensor " + entry.name + " has dtype " + *entry.dtype + "; F32, F16, BF16, I32, I64 and U8 are read",
        "use an unquantised copy of the model");
  }
  TensorView view;
  view.name = entry.name;
  view.dtype = *dtype;
  const auto shape = Dimensions(*entry.shape);
  const auto num_bytes = shape ? ByteSize(*shape, *dtype) : std::nullopt;
  if (!num_bytes) throw fail("has an impossible shape");
  const uint64_t begin = entry.offsets->at(0), end = entry.offsets->at(1);
  if (begin > end || end > data.size()) {
    throw fail("lies at bytes " + std::to_string(begin) + " to " + std::to_string(end) + " of the data, which has " + std::to_string(data.size()));
  }
  if (end - begin != *num_bytes) {
    throw fail("takes " + std::to_string(end - begin) + " bytes, but " + *entry.dtype + " " + ShapeText(*shape) + " needs " +
               std::to_string(*num_bytes));
  }
  view.shape = *shape;
  view.data = data.data() + begin;
  view.num_bytes = *num_bytes;
  return view;
}

void CheckCovers(const std::vector<Entry>& entries, uint64_t data_size, const std::string& path) {
  std::vector<const Entry*> by_offset;
  for (const Entry& entry : entries) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const Entry* a, const Entry* b) { return *a->offsets < *b->offsets; });
  uint64_t expected = 0;
  for (const Entry* entry : by_offset) {
    if (entry->offsets->at(0) != expected) {
      throw Error::Data("safetensors file " + path + ": tensor " + entry->name + " starts at byte " + std::to_string(entry->offsets->at(0)) +
                        " of the data, expected " + std::to_string(expected) + ": tensors overlap or leave a hole");
    }
    expected = entry->offsets->at(1);
  }
  if (expected != data_size) {
    throw Error::Data(
        "safetensors file " + path + ": its tensors take " + std::to_string(expected) + " bytes, the file has " + std::to_string(data_size),
        "the file may be cut short; fetch it again");
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const std::string_view bytes = file_.bytes();
  const auto fail = [&](const std::string& what) {
    return Error::Data("safetensors file " + path + ": " + what, "the file may be cut short; fetch it again");
  };
  if (bytes.size() < 8) throw fail("only " + std::to_string(bytes.size()) + " bytes, a header needs at least 8");
  const auto header_bytes = LoadLe<uint64_t>(bytes.data());
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - 8) {
    throw fail("its header claims " + std::to_string(header_bytes) + " bytes, the file has " + std::to_string(bytes.size() - 8) +
               " after the length");
  }
  const std::string_view header = bytes.substr(8, header_bytes);
  if (header.empty() || header.front() != '{') throw fail("its header does not start with {");
  HeaderParser parser;
  if (!Json::sax_parse(header.begin(), header.end(), &parser)) throw fail("bad header: " + parser.problem);
  const std::string_view data = bytes.substr(8 + header_bytes);
  for (const Entry& entry : parser.entries) {
    if (!entry.offsets || !entry.dtype || !entry.shape) throw fail("bad header: \"" + entry.name + "\" is no tensor");
    tensors_.push_back(ViewOf(entry, data, path));
  }
  CheckCovers(parser.entries, data.size(), path);
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
  metadata_ = std::move(parser.metadata);
}

SafetensorsLayout LayOutSafetensors(const std::vector<TensorView>& tensors, const SafetensorsMetadata& metadata) {
  SafetensorsLayout layout;
  layout.order.resize(tensors.size());
  std::iota(layout.order.begin(), layout.order.end(), size_t{0});
  std::sort(layout.order.begin(), layout.order.end(), [&](size_t a, size_t b) {
    const uint64_t width_a = BlockOf(tensors[a].dtype).num_bytes, width_b = BlockOf(tensors[b].dtype).num_bytes;
    return width_a != width_b ? width_a > width_b : tensors[a].name < tensors[b].name;
  });
  nlohmann::json header;  // keys in alphabetical order, whatever order they came in
  for (const auto& [key, value] : metadata) header[kMetadataKey][key] = value;
  for (const size_t index : layout.order) {
    const TensorView& tensor = tensors[index];
    if (tensor.name == kMetadataKey || header.contains(tensor.name))
      throw Error::Usage("tensor name " + tensor.name + " appears twice or is reserved");
    if (BlockOf(tensor.dtype).num_elements != 1 || ByteSize(tensor.shape, tensor.dtype) != tensor.num_bytes) {
      throw Error::Usage("tensor " + tensor.name + ": " + std::to_string(tensor.num_bytes) + " bytes do not fit " + Name(tensor.dtype) + " " +
                         ShapeText(tensor.shape));
    }
    header[tensor.name] = {
        {"dtype", Name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {layout.data_bytes, layout.data_bytes + tensor.num_bytes}}};
    layout.data_bytes += tensor.num_bytes;
  }
  std::string text = tensors.empty() && metadata.empty() ? "{}" : header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  AppendLe<uint64_t>(layout.head, text.size());
  layout.head += text;
  return layout;
}

}  // namespace april::weights
