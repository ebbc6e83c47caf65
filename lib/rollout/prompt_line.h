// One prompt from the command line, answered as text.
#pragma once

#include <cstdint>
#include <string>

#include "base/options.h"
#include "rollout/generator.h"

namespace april::rollout {

struct PromptLineOptions {
  std::string prompt;
  int64_t max_tokens = 512;
  double temperature = 1;
  double top_p = 1;
  void Register(OptionsVisitor& options);
};

/// Renders the prompt as a user's message in the model's chat template (as plain text when it has none) and writes the answer to stdout as it comes.
void AnswerPrompt(const PromptLineOptions& options, Generator& generator, uint64_t seed);

}  // namespace april::rollout
