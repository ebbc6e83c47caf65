#include "grpo/sidecars.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "text/export.h"
#include "text/tokenizer.h"

namespace april::grpo {
namespace {

bool IsDirectory(const std::string& path) { return SystemFiles().Exists(JoinPath(path, ".")); }

}  // namespace

std::vector<std::string> CopySidecars(const std::vector<std::string>& paths, const std::string& directory) {
  std::vector<std::string> copies;
  for (const std::string& path : paths) {
    const std::string copy = JoinPath(directory, path.substr(path.find_last_of('/') + 1));
    if (copy != path) ReplaceFile(SystemFiles(), copy, ReadFile(SystemFiles(), path), /*durable=*/false);
    copies.push_back(copy);
  }
  return copies;
}

std::vector<std::string> ModelSidecars(const weights::ModelFiles& model, const std::string& directory) {
  std::vector<std::string> paths = text::TokenizerFilesOf(model.path(), directory);
  Json config = model.config();
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";  // transformers 5 and older ones
  paths.push_back(JoinPath(directory, "config.json"));
  ReplaceFile(SystemFiles(), paths.back(), config.dump(2) + "\n", /*durable=*/false);
  return paths;
}

std::optional<uint64_t> TokenizerDigest(const std::string& path) {
  if (IsDirectory(path) && !SystemFiles().Exists(JoinPath(path, "tokenizer.json"))) {
    log::Warn(path + " has no tokenizer.json: whether claims were made with the model's tokenizer is not checked");
    return std::nullopt;
  }
  return text::Tokenizer::Load(path)->digest();
}

}  // namespace april::grpo
