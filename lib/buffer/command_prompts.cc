// init and add: what a run is, and which prompts it has.
#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "buffer/admission.h"
#include "buffer/commands.h"
#include "buffer/leasing.h"
#include "buffer/payloads.h"
#include "buffer/printed_lines.h"
#include "buffer/prompts.h"
#include "buffer/settings.h"
#include "buffer/store.h"
#include "record/io.h"

namespace april::buffer {
namespace {

constexpr size_t kBatchBytes = 4u << 20;

int64_t PromptLimit(int64_t asked, int64_t context_tokens, int64_t max_tokens) {
  if (context_tokens > 0 && max_tokens >= context_tokens) {
    throw Error::Usage("--max-tokens " + std::to_string(max_tokens) + " leaves no room for a prompt: the model's context has " +
                           std::to_string(context_tokens) + " tokens",
                       "at most " + std::to_string(context_tokens) + " less the tokens of the longest prompt");
  }
  const int64_t room = context_tokens > 0 ? context_tokens - max_tokens : 0;
  if (asked > 0 && room > 0 && asked > room) {
    throw Error::Usage("--max-prompt-tokens " + std::to_string(asked) + " and --max-tokens " + std::to_string(max_tokens) +
                       " exceed the model's context of " + std::to_string(context_tokens) + " tokens");
  }
  return asked > 0 ? asked : room;
}

void CheckSampling(const SamplingOptions& sampling, const std::string& purpose) {
  if (purpose == "train" && sampling.temperature == 0) {
    throw Error::Usage("--temperature 0 is for evaluation only: its log-probabilities train nothing", "use --purpose eval, or a temperature above 0");
  }
  if (sampling.top_p <= 0) throw Error::Usage("--top-p must be above 0", "1 = off");
}

/// Prompts from JSON lines or from a stream, one by one; what cannot be used is thrown or counted.
class PromptSource {
 public:
  PromptSource(const AddOptions& options, const RunConfig& config, const Invocation& invocation)
      : options_(options), config_(config), invocation_(invocation) {
    if (options.prompts.empty()) {
      reader_ = std::make_unique<record::RecordReader>(options.io.in, options.store.Reading());
      CheckTokenizer(reader_->header().tokenizer, "the stream's prompts");
      return;
    }
    const std::string& path = options.model.empty() ? config.model : options.model;
    const PromptModel model = LoadModel(path);
    CheckTokenizer(model.tokenizer->digest(), path);
    if (model.chat && config.template_digest && model.chat->digest() != *config.template_digest) {
      throw Error::Incompatible(path + " has another chat template than the run");
    }
    lines_ = std::make_unique<PromptLines>(options.prompts, model, options.plain, Limit());
  }

  std::optional<record::Prompt> Next() {
    for (;;) {
      try {
        if (invocation_.progress_due()) ShowProgress();
        auto prompt = lines_ ? lines_->Next() : NextOfStream();
        if (!prompt) {
          WarnOfUnlabelled();
          return prompt;
        }
        const std::string position = lines_ ? lines_->Position() : reader_->raw().Position();
        const std::string id = "prompt id \"" + prompt->prompt_id + "\"";
        if (!ids_.insert(prompt->prompt_id).second) throw Error::Data(position + ": " + id + " comes twice", "give each line its own \"id\"");
        if ((!prompt->label || prompt->label->empty()) && unlabelled_++ == 0) first_unlabelled_ = position + ", " + id;
        return prompt;
      } catch (const Error& error) {
        // A cut stream cannot be skipped over, a line can.
        if (error.kind() != ErrorKind::kData || !options_.skip_bad || !lines_) throw;
        if (skipped_++ < 5) log::Warn("skipped: " + error.message());
      }
    }
  }
  int64_t skipped() const { return skipped_; }
  /// Of everything that came so far.
  const std::set<std::string>& ids() const { return ids_; }

 private:
  PromptModel LoadModel(const std::string& path) const {
    try {
      return PromptModel::Load(path);
    } catch (const Error& error) {
      if (!options_.model.empty()) throw;
      throw error.Within("the model that init was given").WithHint("if it is elsewhere now: --model PATH");
    }
  }

  int64_t Limit() const { return options_.max_prompt_tokens > 0 ? options_.max_prompt_tokens : config_.max_prompt_tokens; }

  void WarnOfUnlabelled() const {
    if (unlabelled_ == 0) return;
    log::Warn(std::to_string(unlabelled_) + " of " + std::to_string(ids_.size()) + " prompts have no label, the first: " + first_unlabelled_ +
              "; only a scorer that needs none can judge them: reward-score --scorer regex with a --pattern without a capture");
  }

  void ShowProgress() const {
    invocation_.progress(static_cast<double>(ids_.size()), 0, std::to_string(ids_.size()) + " prompts, skipped " + std::to_string(skipped_));
  }

  void CheckTokenizer(std::optional<uint64_t> digest, const std::string& subject) const {
    if (digest && config_.tokenizer && *digest != *config_.tokenizer) {
      throw Error::Incompatible(subject + " have another tokenizer than the run", "use the model that init was given: " + config_.model);
    }
  }

  std::optional<record::Prompt> NextOfStream() {
    while (auto record = reader_->Next()) {
      auto* prompt = std::get_if<record::Prompt>(&*record);
      if (!prompt) continue;
      const auto length = static_cast<int64_t>(prompt->prompt_tokens.size());
      if (length == 0 || (Limit() > 0 && length > Limit())) {
        throw Error::Data(reader_->raw().Position() + ": the prompt has " + std::to_string(length) + " tokens, allowed are 1 to " +
                          std::to_string(Limit()));
      }
      try {
        CheckFits(*prompt);
      } catch (const Error& error) {
        throw error.Within(reader_->raw().Position());
      }
      return std::move(*prompt);
    }
    return std::nullopt;
  }

  const AddOptions& options_;
  const RunConfig& config_;
  const Invocation& invocation_;
  std::unique_ptr<PromptLines> lines_;
  std::unique_ptr<record::RecordReader> reader_;
  std::set<std::string> ids_;
  int64_t skipped_ = 0, unlabelled_ = 0;
  std::string first_unlabelled_;
};

void CheckIsNew(const Store& store, const std::string& id) {
  if (!store.state().queue().HasPrompt(id)) return;
  throw Error::Data(
      "prompt id \"" + id + "\" is in the buffer already; nothing was added",
      "an add that failed may have added it: partial-buffer stat -s " + store.directory() + "; to give prompts more than once use --epochs");
}

void AddToStore(const AddOptions& options, Invocation& invocation) {
  Store store(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
  const RunConfig config = store.state().config();
  PromptSource source(options, config, invocation);
  PlanEntry plan{RandomId(), 0, options.epochs, {}, options.prompts.empty() ? options.io.in : options.prompts};
  if (options.shuffle >= 0) plan.shuffle = static_cast<uint64_t>(options.shuffle);
  for (bool more = true; more;) {
    // Read outside of the transaction: no lock is held while a stream is read.
    std::vector<std::pair<PromptEntry, std::string>> prompts;
    for (size_t bytes = 0; bytes < kBatchBytes && more;) {
      const auto prompt = source.Next();
      more = prompt.has_value();
      if (!prompt) break;
      prompts.emplace_back(PromptEntry{plan.add, prompt->prompt_id, static_cast<int64_t>(prompt->prompt_tokens.size())},
                           record::EncodeRecord(*prompt));
      bytes += prompts.back().second.size();
    }
    plan.prompts += static_cast<int64_t>(prompts.size());
    if (!more && plan.prompts == 0) throw Error::Data(plan.source + " has no prompt that can be used");
    store.Transact(
        [&](Batch& batch) {
          for (const auto& [entry, payload] : prompts) CheckIsNew(store, entry.id);
          // With the plan all of them once more: another addition may have become whole since the first were journaled.
          if (!more) {
            for (const std::string& id : source.ids()) CheckIsNew(store, id);
          }
          for (const auto& [entry, payload] : prompts) batch.Add(entry, payload);
          if (!more) batch.Add(plan);
        },
        Wait::kNo, Room::kFree);
  }
  invocation.Report("added " + Count(plan.prompts, "prompt") + ", " + Count(plan.prompts * plan.epochs, "group") + " of " +
                        Count(config.group_size, "rollout") + "; skipped " + std::to_string(source.skipped()),
                    {{"prompts", plan.prompts}, {"groups", plan.prompts * plan.epochs}, {"skipped", source.skipped()}});
}

void WriteEvaluation(const AddOptions& options, Invocation& invocation) {
  if (options.model.empty()) throw Error::Usage("--model is needed to tokenise prompts without a buffer");
  const PromptModel model = PromptModel::Load(options.model);
  RunConfig config;
  config.run = options.run;
  config.purpose = options.purpose;
  config.seed = invocation.seed;
  config.model = options.model;
  config.tokenizer = model.tokenizer->digest();
  if (model.chat) config.template_digest = model.chat->digest();
  config.max_prompt_tokens = PromptLimit(options.max_prompt_tokens, model.context_tokens, options.sampling.max_tokens);
  config.group_size = options.sampling.group_size;
  config.max_tokens = options.sampling.max_tokens;
  config.sampling = options.sampling.Sampling();
  PromptSource source(options, config, invocation);
  record::RecordWriter writer(options.io.out, record::Signed(StreamHeader(config), invocation),
                              {.compress = options.io.compress, .peer_timeout_ms = options.store.peer_timeout_ms});
  int64_t prompts = 0;
  while (const auto prompt = source.Next()) {
    ++prompts;
    for (int64_t index = 0; index < config.group_size; ++index) writer.Write(NewRollout(config, *prompt, 0, index));
  }
  writer.Finish();
  invocation.Report(
      "wrote " + Count(prompts * config.group_size, "rollout") + " of " + Count(prompts, "prompt") + "; skipped " + std::to_string(source.skipped()),
      {{"prompts", prompts}, {"rollouts", prompts * config.group_size}, {"skipped", source.skipped()}});
}

}  // namespace

void RunInit(const InitOptions& options, Invocation& invocation) {
  if (options.store.store.empty()) throw Error::Usage("which buffer? -s DIR is missing");
  if (options.model.empty()) throw Error::Usage("--model is missing: the tokenizer and chat template belong to the run");
  CheckSampling(options.sampling, options.purpose);
  const PromptModel model = PromptModel::Load(options.model);
  RunConfig config;
  config.run = options.run;
  config.purpose = options.purpose;
  config.seed = invocation.seed;
  config.model = std::filesystem::absolute(options.model).lexically_normal().string();  // later commands may run in another folder
  config.tokenizer = model.tokenizer->digest();
  if (model.chat) config.template_digest = model.chat->digest();
  config.group_size = options.sampling.group_size;
  config.groups_per_step = options.groups_per_step;
  const auto admission = ParseAdmission(options.admission);
  if (!admission) {
    throw Error::Usage("--admission \"" + options.admission + "\" is none of first-finished, assigned:K, window:W",
                       "for example assigned:1, or window:" + std::to_string(2 * config.groups_per_step));
  }
  config.admission = *admission;
  const int64_t steps_under_way = 1 + (admission->kind == Admission::Kind::kAssigned ? admission->number : 0);
  config.in_flight = options.in_flight == 0 ? config.Need() * steps_under_way : options.in_flight;
  config.min_members = std::min(options.min_members, config.group_size);
  config.run_ahead = options.run_ahead;
  config.max_tokens = options.sampling.max_tokens;
  config.max_prompt_tokens = PromptLimit(options.max_prompt_tokens, model.context_tokens, config.max_tokens);
  config.sampling = options.sampling.Sampling();
  config.retain_steps = options.retain_steps;
  if (options.max_staleness >= 0) config.max_staleness = options.max_staleness;
  if (options.max_resumes >= 0) config.max_resumes = options.max_resumes;
  config.filter = *ParseFilter(options.filter);
  CheckPolicies(config);
  if (config.purpose == "train" && config.group_size == 1)
    log::Warn("--group-size 1: grpo-step leaves out groups of one, which have nobody to be better than");
  if (config.group_size == 2 && config.filter == GroupFilter::kNonzeroStd)
    log::Warn(
        "--filter nonzero-std with --group-size 2: of yes-or-no rewards at least half of the groups are dropped, however hard the questions are");
  Store::Init(SystemFiles(), SystemClock(), options.store.store, config);
  bool first = true;
  for (const std::string& line : SettingsLines(ToJson(SettingsMap(config))))
    log::Info((std::exchange(first, false) ? "settings: " : "          ") + line);
  invocation.summary = "made " + options.store.store + ": run " + config.run + ", " + Count(config.groups_per_step, "group") + " of " +
                       std::to_string(config.group_size) + " a step, " +
                       (config.Synchronous() ? "synchronous" : std::to_string(config.in_flight) + " rollouts in flight") + ", at most " +
                       std::to_string(config.max_tokens) + " tokens each";
}

/// Refuses what would have no effect.
void CheckUse(const AddOptions& options, const Invocation& invocation) {
  const auto refuse = [&](const char* when, std::initializer_list<const char*> names, const char* hint) {
    for (const char* name : names) {
      if (invocation.given(name)) throw Error::Usage(std::string("--") + name + " has no effect " + when, hint);
    }
  };
  const bool to_store = !options.store.store.empty();
  if (!options.prompts.empty()) {
    refuse("beside --prompts", {"in"}, "--prompts reads JSON lines, --in a stream of prompt records: give one of them");
  } else {
    constexpr const char* kHint = "a stream's prompts are tokenised already; --prompts FILE reads JSON lines";
    refuse("without --prompts", {"plain", "skip-bad"}, kHint);
    if (to_store) refuse("without --prompts", {"model"}, kHint);
  }
  if (to_store) {
    refuse("with -s: the run's own holds", {"purpose", "run", "group-size", "max-tokens", "temperature", "top-k", "top-p", "min-p", "stop"},
           "init sets it for a buffer; leave -s out to write an evaluation stream");
    refuse("with -s", {"out", "compress"}, "leave -s out to write an evaluation stream");
  } else {
    refuse("without -s", {"epochs", "shuffle", "take-over"}, "-s DIR names the buffer");
  }
}

void RunAdd(const AddOptions& options, Invocation& invocation) {
  CheckUse(options, invocation);
  if (!options.store.store.empty()) return AddToStore(options, invocation);
  if (options.purpose != "eval")
    throw Error::Usage("which buffer? -s DIR is missing", "or --purpose eval, to write an evaluation stream without a buffer");
  CheckSampling(options.sampling, options.purpose);
  WriteEvaluation(options, invocation);
}

}  // namespace april::buffer
