// Writes a tokenizer and its chat template as the files that a Hugging Face model directory has.
#pragma once

#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace april::text {

/// Puts tokenizer.json, tokenizer_config.json and (unless `chat_template` is null) chat_template.jinja into `directory`; returns their paths.
/// What transformers' AutoTokenizer loads from there gives the same ids. Files of these names are replaced.
std::vector<std::string> WriteTokenizerFiles(const Tokenizer& tokenizer, const ChatTemplate* chat_template, const std::string& directory);

/// The same sidecar files for the model at `path`: those that a model directory already has (paths are returned, nothing is written), else made from
/// the GGUF file's metadata into `directory`.
std::vector<std::string> TokenizerFilesOf(const std::string& path, const std::string& directory);

}  // namespace april::text
