#include "buffer/settings.h"

#include <initializer_list>
#include <utility>

#include "base/bytes.h"

namespace april::buffer {
namespace {

using stream::Map;

using Names = std::initializer_list<std::pair<const char*, const char*>>;  ///< option → key

/// What a run does not set is not among its keys.
std::string Options(const Json& settings, Names names, const char* unset) {
  std::string line;
  for (const auto& [option, key] : names) {
    const auto found = settings.find(key);
    const std::string value = found == settings.end() ? unset : found->is_string() ? found->get<std::string>() : found->dump();
    line += (line.empty() ? "--" : " --") + std::string(option) + " " + value;
  }
  return line;
}

}  // namespace

Map SettingsMap(const RunConfig& config) {
  Map map = ToMap(config);
  for (auto& [key, value] : map) {
    if (key == "tokenizer" && config.tokenizer) value = HexU64(*config.tokenizer);
    if (key == "template" && config.template_digest) value = HexU64(*config.template_digest);
  }
  return map;
}

std::vector<std::string> SettingsLines(const Json& settings) {
  std::string sampling =
      Options(settings, {{"temperature", "temperature"}, {"top-k", "top_k"}, {"top-p", "top_p"}, {"min-p", "min_p"}, {"seed", "seed"}}, "");
  for (const Json& text : settings.at("stop_strings")) sampling += " --stop " + text.dump();
  const std::string filter = settings.contains("filter") ? settings.at("filter").get<std::string>() : "none";
  return {Options(settings,
                  {{"group-size", "group_size"},
                   {"groups-per-step", "groups_per_step"},
                   {"in-flight", "in_flight"},
                   {"max-tokens", "max_tokens"},
                   {"max-prompt-tokens", "max_prompt_tokens"},
                   {"min-members", "min_members"},
                   {"run-ahead", "run_ahead"},
                   {"retain-steps", "retain_steps"}},
                  ""),
          Options(settings, {{"admission", "admission"}, {"max-staleness", "max_staleness"}, {"max-resumes", "max_resumes"}}, "-1") + " --filter " +
              filter,
          std::move(sampling), Options(settings, {{"purpose", "purpose"}, {"model", "model"}}, "")};
}

}  // namespace april::buffer
