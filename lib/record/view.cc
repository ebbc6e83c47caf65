#include "record/view.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/bytes.h"
#include "record/keys.h"
#include "stream/scanner.h"

namespace april::record {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

const KeyInfo* FindKey(std::string_view map, std::string_view key) {
  for (const KeyInfo& info : KeyTable()) {
    if (map == info.map && key == info.key) return &info;
  }
  return nullptr;
}

// Names the map under a control record's "values", whose keys formats/records.md tells in words.
constexpr std::string_view kControlValues = "control values";

/// Whether people see the number as 16 hexadecimal digits.
bool IsHex(std::string_view map, std::string_view key, const KeyInfo* info) {
  if (map == kControlValues) return key == "lease" || key == "trained_weights";
  if (!info && key.ends_with("_digest")) return true;  // of a step's metrics
  return info && (std::string_view(info->unit) == "id" || std::string_view(info->unit) == "digest");
}

/// A float as the shortest decimal that names it, so that 0.1f is shown as 0.1.
Json Number(float value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double shortest = 0;
  std::from_chars(text, end, shortest);
  return shortest;
}

Json Number(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return value;
}

template <typename T>
Json List(const std::string& bytes) {
  Json list = Json::array();
  for (size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    const T value = LoadLe<T>(bytes.data() + i);
    if constexpr (std::is_floating_point_v<T>) {
      list.push_back(Number(value));
    } else {
      list.push_back(value);
    }
  }
  return list;
}

Json BinToJson(std::string_view type, const std::string& bytes) {
  if (type == "bin u32" || type == "u32") return List<uint32_t>(bytes);
  if (type == "bin f32" || type == "f32") return List<float>(bytes);
  if (type == "u8") return List<uint8_t>(bytes);
  if (type == "u16") return List<uint16_t>(bytes);
  if (type == "i32") return List<int32_t>(bytes);
  if (type == "i64") return List<int64_t>(bytes);
  if (type == "u64") return List<uint64_t>(bytes);
  if (type == "f64") return List<double>(bytes);
  return {{"hex", HexBytes(bytes)}};
}

/// `map` is the name of the map in the key table, "" inside of what it does not know.
Json ValueToJson(std::string_view map, std::string_view key, const Value& value, std::string_view element_type);

Json MapToJson(std::string_view name, const Map& map) {
  const Value* dtype = name == "per_token_array" ? Find(map, "dtype") : nullptr;
  Json json = Json::object();
  for (const auto& [key, value] : map) {
    if (dtype && key == "data" && std::holds_alternative<std::string>(dtype->held())) {
      json[key] = ValueToJson("", key, value, dtype->AsString());
    } else {
      json[key] = ValueToJson(name, key, value, "");
    }
  }
  return json;
}

Json PerTokenToJson(const Map& map) {
  Json json = Json::object();
  for (const auto& [name, value] : map) json[name] = ValueToJson("", name, value, "per_token_array");
  return json;
}

Json OutcomesToJson(const Array& outcomes) {
  Json json = Json::object();
  for (const Value& outcome : outcomes) json[HexU64(outcome.AsArray().at(0).AsUint())] = outcome.AsArray().at(1).AsString();
  return json;
}

Json ValueToJson(std::string_view map, std::string_view key, const Value& value, std::string_view element_type) {
  const KeyInfo* info = map.empty() ? nullptr : FindKey(map, key);
  std::string_view type = info ? info->type : element_type;
  if (type.ends_with("[]") && type != "outcome[]" && std::holds_alternative<Array>(value.held())) type.remove_suffix(2);
  const auto show = [&](const auto& held) -> Json {
    using T = std::decay_t<decltype(held)>;
    if constexpr (std::is_same_v<T, std::monostate>) {
      return nullptr;
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      return IsHex(map, key, info) ? Json(HexU64(held)) : Json(held);
    } else if constexpr (std::is_floating_point_v<T>) {
      return Number(held);
    } else if constexpr (std::is_same_v<T, Bin>) {
      return BinToJson(type, held.bytes);
    } else if constexpr (std::is_same_v<T, Array>) {
      if (type == "outcome[]") return OutcomesToJson(held);
      Json json = Json::array();
      for (const Value& element : held) json.push_back(ValueToJson("", "", element, type));
      return json;
    } else if constexpr (std::is_same_v<T, Map>) {
      if (key == "per_token" && map == "rollout") return PerTokenToJson(held);
      return MapToJson(key == "values" && map == "control" ? kControlValues : type, held);
    } else {
      return held;
    }
  };
  return std::visit(show, value.held());
}

bool IsTiming(std::string_view key) {
  for (const std::string_view suffix : {"_s", "_ms", "_ns", "_seconds"}) {
    if (key.ends_with(suffix)) return true;
  }
  return false;
}

Value Canonicalise(const Value& value) {
  if (const auto* number = std::get_if<float>(&value.held())) return static_cast<double>(*number);
  if (const auto* array = std::get_if<Array>(&value.held())) {
    Array result;
    for (const Value& element : *array) result.push_back(Canonicalise(element));
    return result;
  }
  const auto* map = std::get_if<Map>(&value.held());
  if (!map) return value;
  Map result;
  for (const auto& [key, element] : *map) {
    if (!IsTiming(key)) result.emplace_back(key, key == "meta" ? element : Canonicalise(element));
  }
  std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return result;
}

std::string Versions(const std::vector<WeightSpan>& spans) {
  std::string text;
  for (const WeightSpan& span : spans) {
    text += (text.empty() ? ", versions " : " ") + std::to_string(span.version) + ":" + std::to_string(span.start) + "-" + std::to_string(span.end);
  }
  return text;
}

std::string Short(double value) {
  char text[32];
  return std::string(text, static_cast<size_t>(std::snprintf(text, sizeof text, "%.4g", value)));
}

struct Liner {
  std::string operator()(const Rollout& rollout) const {
    std::string line = "rollout " + HexU64(rollout.uid) + "  " + rollout.prompt_id + " " + std::to_string(rollout.index + 1) + "/" +
                       std::to_string(rollout.group_size) + "  " + StatusText(rollout.status);
    if (rollout.finish != Finish::kNone) line += std::string(" (") + FinishText(rollout.finish) + ")";
    line += "  " + std::to_string(rollout.prompt_tokens.size()) + "+" + std::to_string(rollout.tokens.size()) + " tokens" +
            Versions(rollout.weight_versions);
    if (rollout.resumes > 0) line += ", resumed " + std::to_string(rollout.resumes) + "x";
    if (rollout.reward) line += ", reward " + (rollout.reward->status == "ok" ? Short(rollout.reward->value) : rollout.reward->status);
    if (rollout.advantage) line += ", advantage " + Short(*rollout.advantage);
    return line;
  }
  std::string operator()(const Prompt& prompt) const {
    return "prompt  " + prompt.prompt_id + "  " + std::to_string(prompt.prompt_tokens.size()) + " tokens" +
           (prompt.label ? ", label " + *prompt.label : "");
  }
  std::string operator()(const Group& group) const {
    return "group   " + HexU64(group.group_id) + "  " + group.prompt_id + "  " + std::to_string(group.members) + " of " +
           std::to_string(group.expected) + " rollouts" + (group.claim.empty() ? "" : ", claim " + group.claim);
  }
  std::string operator()(const Progress& progress) const {
    return "progress " + HexU64(progress.uid) + "  " + std::to_string(progress.tokens.size()) + " tokens from " + std::to_string(progress.start) +
           Versions(progress.weight_versions);
  }
  std::string operator()(const Step& step) const {
    return "step    " + std::to_string(step.step) + "  claim " + step.claim + "  version " + std::to_string(step.version) + " " +
           HexU64(step.weights) + "  " + std::to_string(step.outcomes.size()) + " rollouts" + (step.advanced ? "" : ", no gradient") +
           (step.checkpoint ? ", checkpoint " + *step.checkpoint : "");
  }
  std::string operator()(const Metrics& metrics) const { return "metrics " + Rest("", metrics.values); }
  std::string operator()(const Weights& weights) const {
    return "weights version " + std::to_string(weights.version) + " " + HexU64(weights.weights) + "  " + weights.path;
  }
  std::string operator()(const Control& control) const { return "control " + control.kind + "  " + Rest(kControlValues, control.values); }
  std::string operator()(const Unknown& unknown) const {
    return unknown.type + "  " + HumanBytes(unknown.bytes.size()) + " of a type that this build does not know";
  }

  static std::string Rest(std::string_view name, const Map& values) {
    return MapToJson(name, values).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
};

}  // namespace

Json ToJson(std::string_view record_bytes) {
  const Value value = stream::Decode(record_bytes);
  return MapToJson(stream::TypeOf(record_bytes), value.AsMap());
}

std::string OneLine(const Record& record) { return std::visit(Liner{}, record); }

CanonicalRecord Canonical(std::string_view record_bytes) {
  Value value = stream::Decode(record_bytes);
  Map& map = std::get<Map>(value.held());
  if (stream::TypeOf(record_bytes) == "header") std::erase_if(map, [](const auto& entry) { return entry.first == "provenance"; });
  Map type = {map.front()};
  map.erase(map.begin());
  CanonicalRecord result;
  const Value* uid = Find(map, "uid");
  if (uid && std::holds_alternative<uint64_t>(uid->held())) result.uid = uid->AsUint();
  const Value rest = Canonicalise(value);
  type.insert(type.end(), rest.AsMap().begin(), rest.AsMap().end());  // the type stays first, as in every record
  result.bytes = stream::Encode(type);
  return result;
}

}  // namespace april::record
