#include "rollout/sim_profile.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "rollout/sim_json.h"

namespace april::rollout {
namespace {

constexpr const char* kFormat = "april-simulation-profile";

/// Where `value` lies among `points`: the index of the point before it, and how far towards the next one. Before the first point: there; beyond the
/// last: further than 1.
struct Place {
  size_t before = 0;
  double share = 0;
};

Place Find(const std::vector<int64_t>& points, double value) {
  if (points.size() == 1 || value <= static_cast<double>(points.front())) return {};
  auto next =
      std::upper_bound(points.begin() + 1, points.end() - 1, value, [](double wanted, int64_t point) { return wanted < static_cast<double>(point); });
  const auto before = static_cast<double>(*(next - 1));
  return {static_cast<size_t>(next - points.begin()) - 1, (value - before) / (static_cast<double>(*next) - before)};
}

/// On the line through two values; beyond the second it never falls.
double Along(double first, double second, double share) {
  if (share > 1) return second + std::max(0.0, second - first) * (share - 1);
  return first + (second - first) * share;
}

double Along(const std::vector<double>& values, Place place) {
  return Along(values[place.before], values[std::min(place.before + 1, values.size() - 1)], place.share);
}

void RequireAscending(const std::vector<int64_t>& points, int64_t least, const std::string& what) {
  if (points.empty()) throw Error::Usage("decode: " + what + " is empty");
  if (points.front() < least || !std::is_sorted(points.begin(), points.end(), std::less_equal<>())) {
    throw Error::Usage("decode: " + what + " does not ascend from " + std::to_string(least) + " or more");
  }
}

StepTimes StepTimesFromJson(const Json& json) {
  JsonFields fields(json, "decode");
  StepTimes times;
  if (!fields.Has("rows")) {
    times.step_ms = fields.Number("step_ms");
    times.row_ms = fields.Number("row_ms");
    times.context_us = fields.Number("context_us");
    fields.RefuseOthers();
    if (times.step_ms < 0 || times.row_ms < 0 || times.context_us < 0 || times.step_ms + times.row_ms <= 0) {
      throw Error::Usage("decode: step_ms, row_ms and context_us are times: none is negative, and a step takes some");
    }
    return times;
  }
  times.rows = fields.Integers("rows");
  times.contexts = fields.Integers("context_positions");
  RequireAscending(times.rows, 1, "rows");
  RequireAscending(times.contexts, 0, "context_positions");
  const Json& table = fields.At("step_ms");
  fields.RefuseOthers();
  if (!table.is_array() || table.size() != times.rows.size()) {
    throw Error::Usage("decode: step_ms has " + std::to_string(table.is_array() ? table.size() : 0) + " lines, expected one for each of " +
                       std::to_string(times.rows.size()) + " rows");
  }
  for (size_t i = 0; i < table.size(); ++i) {
    const std::string what = "decode: step_ms[" + std::to_string(i) + "]";
    if (!table[i].is_array() || table[i].size() != times.contexts.size()) {
      throw Error::Usage(what + " has " + std::to_string(table[i].is_array() ? table[i].size() : 0) + " times, expected one for each of " +
                         std::to_string(times.contexts.size()) + " context_positions");
    }
    std::vector<double>& line = times.table_ms.emplace_back();
    for (size_t j = 0; j < table[i].size(); ++j) {
      line.push_back(ToNumber(table[i][j], what + "[" + std::to_string(j) + "]"));
      if (line.back() <= 0) throw Error::Usage(what + "[" + std::to_string(j) + "] is " + table[i][j].dump() + " ms, expected more than 0");
    }
  }
  return times;
}

std::vector<std::string> SourceFromJson(const Json& json) {
  std::vector<std::string> lines;
  for (const Json& line : json.is_array() ? json : Json::array({json})) {
    if (!line.is_string()) throw Error::Usage("source is not text, nor a list of lines");
    lines.push_back(line.get<std::string>());
  }
  if (lines.empty() || lines.front().empty()) throw Error::Usage("source is empty", "say where the numbers come from");
  return lines;
}

std::string NameFromJson(const std::string& name) {
  constexpr const char* kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  if (name.empty() || name.size() > 60 || name.find_first_not_of(kLetters) != std::string::npos)
    throw Error::Usage("name is \"" + name + "\", expected at most 60 letters, digits, '.', '-', '_'");
  return name;
}

int64_t Within(int64_t value, int64_t least, int64_t most, const char* key) {
  if (value < least || value > most) {
    throw Error::Usage(std::string(key) + " is " + std::to_string(value) + ", expected " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

double NotNegative(double value, const char* key) {
  if (value < 0) throw Error::Usage(std::string("prefill: ") + key + " is negative");
  return value;
}

std::string ShippedNames() {
  std::string names;
  for (const ShippedProfile& shipped : kShippedProfiles) names += (names.empty() ? "" : ", ") + std::string(shipped.name);
  return names;
}

}  // namespace

double StepTimes::Ms(double num_rows, double positions) const {
  if (num_rows <= 0) return 0;
  if (table_ms.empty()) return step_ms + row_ms * num_rows + context_us * 1e-3 * positions;
  const Place row = Find(rows, num_rows), context = Find(contexts, positions / num_rows);
  const double first = Along(table_ms[row.before], context), second = Along(table_ms[std::min(row.before + 1, table_ms.size() - 1)], context);
  return Along(first, second, row.share);
}

SimProfile SimProfileFromJson(const Json& json) {
  JsonFields fields(json, "");
  if (fields.Text("format") != kFormat) throw Error::Usage("format is not \"" + std::string(kFormat) + "\"");
  if (const int64_t version = fields.Integer("version"); version != 1) {
    throw Error::Incompatible("version is " + std::to_string(version) + ", this build reads 1");
  }
  SimProfile profile;
  profile.name = NameFromJson(fields.Text("name"));
  profile.source = SourceFromJson(fields.At("source"));
  profile.decode = StepTimesFromJson(fields.At("decode"));
  JsonFields prefill(fields.At("prefill"), "prefill");
  profile.prefill_token_ms = NotNegative(prefill.Number("token_ms"), "token_ms");
  profile.prefill_position_ns = NotNegative(prefill.Number("position_ns", 0), "position_ns");
  prefill.RefuseOthers();
  profile.engines = Within(fields.Integer("engines", 1), 1, 1 << 20, "engines");
  profile.memory_positions = Within(fields.Integer("memory_positions", 0), 0, int64_t{1} << 50, "memory_positions");
  profile.max_positions = Within(fields.Integer("max_positions", profile.max_positions), 2, int64_t{1} << 31, "max_positions");
  profile.vocab_size = static_cast<uint32_t>(Within(fields.Integer("vocab_size", profile.vocab_size), 4, 1 << 30, "vocab_size"));
  profile.stop_token = static_cast<uint32_t>(Within(fields.Integer("stop_token", profile.stop_token), 0, profile.vocab_size - 1, "stop_token"));
  profile.lengths = LengthsFromJson(fields.At("lengths"));
  fields.RefuseOthers();
  return profile;
}

SimProfile LoadSimProfile(const std::string& name) {
  std::string text;
  if (name.find('/') != std::string::npos || name.ends_with(".json")) {
    text = ReadFile(SystemFiles(), name);
  } else {
    const auto shipped = std::find_if(kShippedProfiles.begin(), kShippedProfiles.end(), [&](const ShippedProfile& one) { return name == one.name; });
    if (shipped == kShippedProfiles.end()) {
      throw Error::Usage("no profile is called \"" + name + "\"",
                         "shipped are " + ShippedNames() + "; a file is named by a path that ends in .json; rollout-gen --profile measures one");
    }
    text = shipped->text;
  }
  try {
    return SimProfileFromJson(Json::parse(text));
  } catch (const Json::exception& error) {
    throw Error::Usage("profile " + name + " is no JSON: " + JsonProblem(error));
  } catch (const Error& error) {
    throw error.Within("profile " + name);
  }
}

Json ToJson(const SimProfile& profile) {
  Json json;
  json["format"] = kFormat;
  json["version"] = 1;
  json["name"] = profile.name;
  json["source"] = profile.source;
  const StepTimes& decode = profile.decode;
  if (decode.table_ms.empty()) {
    json["decode"] = {{"step_ms", decode.step_ms}, {"row_ms", decode.row_ms}, {"context_us", decode.context_us}};
  } else {
    json["decode"] = {{"rows", decode.rows}, {"context_positions", decode.contexts}, {"step_ms", decode.table_ms}};
  }
  json["prefill"] = {{"token_ms", profile.prefill_token_ms}, {"position_ns", profile.prefill_position_ns}};
  json["engines"] = profile.engines;
  json["memory_positions"] = profile.memory_positions;
  json["max_positions"] = profile.max_positions;
  json["vocab_size"] = profile.vocab_size;
  json["stop_token"] = profile.stop_token;
  json["lengths"] = ToJson(profile.lengths);
  return json;
}

std::string ProfileText(const SimProfile& profile) {
  std::string text = "{";
  const auto member = [&](const std::string& key, const Json& value, const std::string& indent) {
    text += "\n" + indent + Json(key).dump() + ": " + value.dump() + ",";
  };
  const auto end = [&](const std::string& close) {
    text.pop_back();
    text += close;
  };
  const Json json = ToJson(profile);
  for (const auto& [key, value] : json.items()) {
    if (key == "source") {
      text += "\n  \"source\": [";
      for (const Json& line : value) text += "\n    " + line.dump() + ",";
      end("\n  ],");
    } else if (key == "decode" && value.contains("rows")) {
      text += "\n  \"decode\": {";
      member("rows", value["rows"], "    ");
      member("context_positions", value["context_positions"], "    ");
      text += "\n    \"step_ms\": [";
      for (const Json& line : value["step_ms"]) text += "\n      " + line.dump() + ",";
      end("\n    ]\n  },");
    } else {
      member(key, value, "  ");
    }
  }
  end("\n}\n");
  return text;
}

}  // namespace april::rollout
