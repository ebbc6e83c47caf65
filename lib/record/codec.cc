#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/utf8.h"
#include "record/fields.h"
#include "stream/framing.h"
#include "stream/scanner.h"

namespace april::record {
namespace {

using stream::Map;
using stream::Value;

template <typename T>
constexpr const char* kTypeName = nullptr;
template <>
constexpr const char* kTypeName<Header> = "header";
template <>
constexpr const char* kTypeName<Rollout> = "rollout";
template <>
constexpr const char* kTypeName<Prompt> = "prompt";
template <>
constexpr const char* kTypeName<Group> = "group";
template <>
constexpr const char* kTypeName<Progress> = "progress";
template <>
constexpr const char* kTypeName<Step> = "step";
template <>
constexpr const char* kTypeName<Metrics> = "metrics";
template <>
constexpr const char* kTypeName<Weights> = "weights";
template <>
constexpr const char* kTypeName<Control> = "control";

void CheckText(const std::string& text) {
  if (const auto offset = FindInvalidUtf8(text)) {
    throw Error::Data("not valid UTF-8 at byte " + std::to_string(*offset), "text in records is UTF-8: convert it, or carry it as bin");
  }
}

/// Throws Data unless all text is UTF-8: readers in other languages refuse a stream for one str that is not.
void CheckText(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value.held())) return CheckText(*text);
  if (const auto* array = std::get_if<stream::Array>(&value.held())) {
    for (const Value& element : *array) CheckText(element);
  }
  if (const auto* map = std::get_if<Map>(&value.held())) {
    for (const auto& [key, element] : *map) {
      try {
        CheckText(key);
        CheckText(element);
      } catch (const Error& error) {
        throw error.Within("key \"" + ReplaceInvalidUtf8(key) + "\"");
      }
    }
  }
}

/// How messages name a record: its type, and its uid or other name where it has one.
std::string Subject(std::string_view type, const Map& map) {
  std::string subject(type);
  if (const Value* uid = Find(map, "uid"); uid && std::holds_alternative<uint64_t>(uid->held())) {
    subject += " " + HexU64(std::get<uint64_t>(uid->held()));
  } else if (const Value* id = Find(map, "prompt_id"); id && std::holds_alternative<std::string>(id->held())) {
    subject += " \"" + ReplaceInvalidUtf8(std::get<std::string>(id->held())) + "\"";
  }
  return subject;
}

template <typename T>
std::string EncodeTyped(const T& record) {
  Value value = ToMap(record);
  Map& map = std::get<Map>(value.held());
  try {
    CheckText(value);
  } catch (const Error& error) {
    throw error.Within(Subject(kTypeName<T>, map));
  }
  map.emplace(map.begin(), "type", kTypeName<T>);
  return stream::Encode(value);
}

template <typename T>
bool TryDecode(std::string_view type, Map* map, Record* out) {
  if (type != kTypeName<T>) return false;
  const std::string subject = Subject(type, *map);
  try {
    T record = FromMap<T>(std::move(*map), true);
    if constexpr (requires { Validate(record); }) Validate(record);
    *out = std::move(record);
  } catch (const Error& error) {
    throw error.kind() == ErrorKind::kData && error.message().starts_with(subject) ? error : error.Within(subject);
  }
  return true;
}

}  // namespace

std::string EncodeRecord(const Record& record) {
  return std::visit(
      [](const auto& typed) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(typed)>, Unknown>) {
          return typed.bytes;
        } else {
          return EncodeTyped(typed);
        }
      },
      record);
}

Record DecodeRecord(std::string_view bytes) {
  const std::string_view type = stream::TypeOf(bytes);
  Value value = stream::Decode(bytes);
  Map& map = std::get<Map>(value.held());
  Record record;
  const bool known = TryDecode<Rollout>(type, &map, &record) || TryDecode<Prompt>(type, &map, &record) || TryDecode<Group>(type, &map, &record) ||
                     TryDecode<Progress>(type, &map, &record) || TryDecode<Step>(type, &map, &record) || TryDecode<Metrics>(type, &map, &record) ||
                     TryDecode<Weights>(type, &map, &record) || TryDecode<Control>(type, &map, &record);
  if (!known) return Unknown{std::string(type), std::string(bytes)};
  return record;
}

std::string EncodeHeader(const Header& header) { return EncodeTyped(header); }

Header DecodeHeader(std::string_view bytes) {
  if (stream::TypeOf(bytes) != "header")
    throw Error::Data("the stream begins with a record of type \"" + std::string(stream::TypeOf(bytes)) + "\" instead of a header");
  Value value = stream::Decode(bytes);
  Map& map = std::get<Map>(value.held());
  stream::CheckHeader(map);
  try {
    Header header = FromMap<Header>(std::move(map), true);
    if (header.purpose != "train" && header.purpose != "eval")
      throw Error::Data("key \"purpose\": \"" + header.purpose + "\" is none of train, eval");
    return header;
  } catch (const Error& error) {
    throw error.Within("header");
  }
}

uint64_t RolloutUid(const std::string& run, const std::string& prompt_id, int64_t epoch, int64_t index, int64_t attempt) {
  return Digest(stream::Encode(stream::Array{run, prompt_id, epoch, index, attempt}));
}

uint64_t GroupId(const std::string& run, const std::string& prompt_id, int64_t epoch) {
  return Digest(stream::Encode(stream::Array{run, prompt_id, epoch}));
}

}  // namespace april::record
