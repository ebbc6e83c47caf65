#include "text/context.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/gguf.h"

namespace april::text {

namespace {

/// As lib/model/config.cc has it: YaRN extends the context that the model was trained with, by its factor.
int64_t YarnContext(const Json& config) {
  const char* key = config.contains("rope_parameters") && !config["rope_parameters"].is_null() ? "rope_parameters" : "rope_scaling";
  const Json scaling = config.value(key, Json());
  if (!scaling.is_object() || scaling.value("rope_type", scaling.value("type", "")) != "yarn") return 0;
  const auto number = [&scaling](const char* name) {
    return scaling.contains(name) && scaling[name].is_number() ? scaling[name].get<double>() : 0.0;
  };
  return static_cast<int64_t>(std::clamp(number("factor") * number("original_max_position_embeddings"), 0.0, 0x1p31));
}

}  // namespace

std::optional<int64_t> ContextTokens(const std::string& path) {
  if (weights::GgufFile::LooksLikeOne(path)) {
    const weights::GgufFile file(path);
    const std::string* architecture = file.Text("general.architecture");
    return architecture == nullptr ? std::nullopt : file.Integer(*architecture + ".context_length");
  }
  const std::string config_path = JoinPath(path, "config.json");
  if (!SystemFiles().Exists(config_path)) return std::nullopt;
  try {
    const Json config = Json::parse(ReadFile(SystemFiles(), config_path));
    if (!config.is_object() || !config.contains("max_position_embeddings")) return std::nullopt;
    return std::max(config["max_position_embeddings"].get<int64_t>(), YarnContext(config));
  } catch (const Json::exception& error) {
    throw Error::Data(config_path + ": " + JsonProblem(error));
  }
}

}  // namespace april::text
