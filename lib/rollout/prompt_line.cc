#include "rollout/prompt_line.h"

#include <unistd.h>

#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/printing.h"
#include "rollout/meter.h"
#include "rollout/scheduler.h"
#include "text/chat_template.h"

namespace april::rollout {
namespace {

std::vector<uint32_t> Render(const std::string& prompt, const Generator& generator) {
  const auto chat = text::ChatTemplate::TryLoad(generator.model_path());
  if (!chat) {
    log::Warn("the prompt is continued as plain text: " + generator.model_path() + ": the model has no chat template");
    return generator.tokenizer()->EncodePlainPrompt(prompt);
  }
  return chat->RenderTokens(*generator.tokenizer(), {{"user", prompt}}, true);
}

struct NoSink : Sink {
  std::string failure;
  void Write(const record::Record& record) override {
    const auto& rollout = std::get<record::Rollout>(record);
    if (const stream::Value* error = stream::Find(rollout.meta, "generation_error")) failure = error->AsString();
  }
  void Flush() override {}
};

/// At once: a person reads along.
void Print(const std::string& text) {
  PrintOut(::isatty(STDOUT_FILENO) == 1 ? Printable(text) : text);
  FlushOut();
}

}  // namespace

void PromptLineOptions::Register(OptionsVisitor& options) {
  options.Section("One prompt, answered as text");
  options.Text("prompt", &prompt, "TEXT", "answer this and end: no streams, text on stdout");
  options.Integer("max-tokens", &max_tokens, 1, kNoUpperLimit, "longest answer, with --prompt");
  options.Real("temperature", &temperature, 0, 100, "0 takes the likeliest token, with --prompt");
  options.Real("top-p", &top_p, 0, 1, "smallest set of likeliest tokens that holds this probability, with --prompt");
}

void AnswerPrompt(const PromptLineOptions& options, Generator& generator, uint64_t seed) {
  record::Rollout rollout;
  rollout.prompt_id = "--prompt";
  rollout.prompt_tokens = Render(options.prompt, generator);
  rollout.seed = seed;
  rollout.max_tokens = options.max_tokens;
  rollout.sampling.temperature = options.temperature;
  rollout.sampling.top_p = options.top_p;

  Engine& engine = generator.Start(1, static_cast<int64_t>(rollout.prompt_tokens.size()) + options.max_tokens);
  NoSink sink;
  Scheduler scheduler(generator.Complete({}), engine, sink, nullptr);
  text::Detokenizer detokenizer(generator.tokenizer(), true);
  scheduler.set_token_observer([&](const record::Rollout& now) {
    const uint32_t token = now.tokens.back();
    if (token < generator.tokenizer()->vocab_size()) Print(detokenizer.Append(token));  // a model's vocabulary may be padded
  });
  scheduler.Give(std::move(rollout));
  const Meter meter(engine, scheduler, 0);
  scheduler.Run();
  Print(detokenizer.Finish() + "\n");
  if (!sink.failure.empty()) throw Error::Runtime("no answer: " + sink.failure);
  log::Detail(meter.Summary());
}

}  // namespace april::rollout
