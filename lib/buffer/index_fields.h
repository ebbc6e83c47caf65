// How the index writes and reads a state's fields: little-endian, one by one, so that no padding gets into the file. One list of fields serves both
// ways.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/entries.h"

namespace april::buffer {

class FieldWriter {
 public:
  explicit FieldWriter(std::string* out) : out_(out) {}
  template <typename... T>
  void operator()(const T&... values) {
    (AppendLe(*out_, values), ...);
  }
  /// `item_fields(fields, item)` passes the item's fields on.
  template <typename T, typename ItemFields>
  void List(const std::vector<T>& list, const ItemFields& item_fields) {
    (*this)(static_cast<uint32_t>(list.size()));
    for (const T& item : list) item_fields(*this, item);
  }
  template <typename T>
  void List(const std::vector<T>& list) {
    List(list, [](auto& fields, auto& item) { fields(item); });
  }
  void Entry(const Entry& entry) { AppendEntry(entry, 0, {}, out_); }

 private:
  std::string* out_;
};

/// Throws Data when the bytes end too early.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}
  template <typename... T>
  void operator()(T&... values) {
    ((values = LoadLe<T>(Next(sizeof(T)).data())), ...);
  }
  template <typename T, typename ItemFields>
  void List(std::vector<T>& list, const ItemFields& item_fields) {
    uint32_t size = 0;
    (*this)(size);
    list.reserve(std::min<size_t>(size, bytes_.size()));
    for (uint32_t i = 0; i < size; ++i) item_fields(*this, list.emplace_back());
  }
  template <typename T>
  void List(std::vector<T>& list) {
    List(list, [](auto& fields, auto& item) { fields(item); });
  }
  DecodedEntry Entry() {
    const DecodedEntry decoded = ReadEntry(bytes_);
    Next(decoded.entry_bytes);
    return decoded;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view Next(size_t size) {
    if (size > bytes_.size()) throw Error::Data("the index is cut short");
    const std::string_view next = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return next;
  }

  std::string_view bytes_;
};

}  // namespace april::buffer
