#include "text/context.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/gguf.h"

namespace april::text {

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
    return config["max_position_embeddings"].get<int64_t>();
  } catch (const Json::exception& error) {
    throw Error::Data(config_path + ": " + error.what());
  }
}

}  // namespace april::text
