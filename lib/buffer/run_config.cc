#include "buffer/run_config.h"

#include <limits>

#include "buffer/map_fields.h"

namespace april::buffer {

using stream::Array;
using stream::Map;
using stream::Value;

Map ToMap(const RunConfig& config) {
  Array stop_tokens;
  for (const uint32_t token : config.sampling.stop_tokens) stop_tokens.push_back(uint64_t{token});
  Array stop_strings(config.sampling.stop_strings.begin(), config.sampling.stop_strings.end());
  Map map = {{"run", config.run},
             {"purpose", config.purpose},
             {"seed", config.seed},
             {"model", config.model},
             {"tokenizer", OrNil(config.tokenizer)},
             {"template", OrNil(config.template_digest)},
             {"max_prompt_tokens", config.max_prompt_tokens},
             {"group_size", config.group_size},
             {"groups_per_step", config.groups_per_step},
             {"in_flight", config.in_flight},
             {"min_members", config.min_members},
             {"run_ahead", config.run_ahead},
             {"max_tokens", config.max_tokens},
             {"temperature", config.sampling.temperature},
             {"top_k", config.sampling.top_k},
             {"top_p", config.sampling.top_p},
             {"min_p", config.sampling.min_p},
             {"stop_tokens", std::move(stop_tokens)},
             {"stop_strings", std::move(stop_strings)},
             {"admission", Text(config.admission)},
             {"retain_steps", config.retain_steps}};
  // What is off is not written.
  if (config.max_staleness) map.emplace_back("max_staleness", *config.max_staleness);
  if (config.max_resumes) map.emplace_back("max_resumes", *config.max_resumes);
  if (config.filter != GroupFilter::kNone) map.emplace_back("filter", Name(config.filter));
  return map;
}

namespace {

/// Runs of earlier builds have none of the optional keys.
void ReadPolicies(const MapFields& fields, RunConfig* config) {
  const auto unknown = [](const char* what, const std::string& text) {
    return Error::Incompatible(std::string("the buffer's ") + what + " is \"" + text + "\", which this build does not know", "use a newer build");
  };
  const auto admission = ParseAdmission(fields.Text("admission"));
  if (!admission) throw unknown("admission", fields.Text("admission"));
  config->admission = *admission;
  if (fields.Has("max_staleness")) config->max_staleness = fields.Int("max_staleness");
  if (fields.Has("max_resumes")) config->max_resumes = fields.Int("max_resumes");
  if (!fields.Has("filter")) return;
  const auto filter = ParseFilter(fields.Text("filter"));
  if (!filter) throw unknown("filter", fields.Text("filter"));
  config->filter = *filter;
}

}  // namespace

RunConfig RunConfigFromMap(const Map& map) {
  const MapFields fields(map, "run configuration");
  RunConfig config;
  config.run = fields.Text("run");
  config.purpose = fields.Text("purpose");
  config.seed = fields.Uint("seed");
  config.model = fields.Text("model");
  config.tokenizer = fields.MaybeUint("tokenizer");
  config.template_digest = fields.MaybeUint("template");
  config.max_prompt_tokens = fields.Int("max_prompt_tokens");
  config.group_size = fields.Int("group_size");
  config.groups_per_step = fields.Int("groups_per_step");
  config.in_flight = fields.Int("in_flight");
  config.min_members = fields.Int("min_members");
  config.run_ahead = fields.Int("run_ahead");
  config.max_tokens = fields.Int("max_tokens");
  config.sampling.temperature = fields.Double("temperature");
  config.sampling.top_k = fields.Int("top_k");
  config.sampling.top_p = fields.Double("top_p");
  config.sampling.min_p = fields.Double("min_p");
  for (const Value& token : fields.Array("stop_tokens")) {
    const uint64_t id = token.AsUint();
    if (id > std::numeric_limits<uint32_t>::max()) throw Error::Data("run configuration: stop token " + std::to_string(id) + " is no token id");
    config.sampling.stop_tokens.push_back(static_cast<uint32_t>(id));
  }
  for (const Value& text : fields.Array("stop_strings")) config.sampling.stop_strings.push_back(text.AsString());
  config.retain_steps = fields.Int("retain_steps");
  ReadPolicies(fields, &config);
  if (config.group_size < 1 || config.groups_per_step < 1 || config.in_flight < 1 || config.max_tokens < 1) {
    throw Error::Data("run configuration: group_size, groups_per_step, in_flight and max_tokens must be at least 1");
  }
  return config;
}

record::Header StreamHeader(const RunConfig& config) {
  record::Header header;
  header.run = config.run;
  header.purpose = config.purpose;
  header.tokenizer = config.tokenizer;
  header.template_digest = config.template_digest;
  return header;
}

}  // namespace april::buffer
