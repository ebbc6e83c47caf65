// Writes a tokenizer and its chat template as the files that a Hugging Face model directory has.
#pragma once

#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace april::text {

/// Puts tokenizer.json, tokenizer_config.json, generation_config.json (the stop tokens) and, unless `chat_template` is null, chat_template.jinja into
/// `directory`; returns their paths. What transformers' AutoTokenizer loads from there gives the same ids, and Tokenizer::Load the same digest.
/// Files of these names are replaced.
std::vector<std::string> WriteTokenizerFiles(const Tokenizer& tokenizer, const ChatTemplate* chat_template, const std::string& directory);

/// The same sidecar files of the model at `path`: for a model directory those that it has (nothing is written), for a .gguf file made from its
/// metadata into `directory`. Throws as Tokenizer::Load.
std::vector<std::string> TokenizerFilesOf(const std::string& path, const std::string& directory);

}  // namespace april::text
