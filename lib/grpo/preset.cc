#include "grpo/preset.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace april::grpo {
namespace {

/// Sets the option of one name.
class Assignment final : public OptionsVisitor {
 public:
  Assignment(std::string name, std::string value) : name_(std::move(name)), value_(std::move(value)) {}

  void Section(const char*) override {}
  void Flag(const char* name, bool* value, const char*) override {
    if (name == name_) *value = value_ == "true";
  }
  void Text(const char* name, std::string* value, const char*, const char*) override {
    if (name == name_) *value = value_;
  }
  void Choice(const char* name, std::string* value, std::vector<std::string>, const char*) override {
    if (name == name_) *value = value_;
  }
  void Integer(const char* name, int64_t* value, int64_t, int64_t, const char*) override {
    if (name == name_) *value = std::strtoll(value_.c_str(), nullptr, 10);
  }
  void Real(const char* name, double* value, double, double, const char*) override {
    if (name == name_) *value = std::strtod(value_.c_str(), nullptr);
  }
  void Bytes(const char*, uint64_t*, const char*) override {}
  void Texts(const char*, std::vector<std::string>*, const char*, const char*) override {}
  void Argument(const char*, std::string*, bool, const char*) override {}
  void Arguments(const char*, std::vector<std::string>*, bool, const char*) override {}

 private:
  std::string name_, value_;
};

// Sources  grpo: DeepSeekMath, arXiv 2402.03300, sections 4.1 and 4.2. dapo: arXiv 2503.14476, sections 3 and 4.1. gspo: arXiv 2507.18071,
// section 5.1. drgrpo: arXiv 2503.20783, section 3. april: the training scripts that the authors of arXiv 2509.18521 published, whatever algorithm
// they are named after. None sets --adv-std: what belongs to their advantage is its default, which goes with any --advantage given beside the preset.
const Preset kPresets[] = {
    {"none", "nothing", {}},
    {"grpo",
     "as first published",
     {{"advantage", "grpo"}, {"loss", "ppo"}, {"clip-low", "0.2"}, {"clip-high", "0.2"}, {"agg", "seq-mean"}, {"kl", "k3"}, {"kl-coef", "0.04"}}},
    {"dapo",
     "for a buffer that leaves out groups of equal rewards, partial-buffer init --filter nonzero-std; soft overlong punishment is reward-score "
     "--overlong, overlong filtering --mask-truncated; clip-higher acts with several --optimizer-steps or with --old behaviour only",
     {{"advantage", "grpo"}, {"loss", "ppo"}, {"clip-low", "0.2"}, {"clip-high", "0.28"}, {"agg", "token-mean"}, {"kl", "off"}}},
    {"gspo",
     "one ratio a response; four optimiser steps, because with one every ratio is 1",
     {{"advantage", "grpo"}, {"loss", "gspo"}, {"agg", "seq-mean"}, {"kl", "off"}, {"optimizer-steps", "4"}}},
    {"drgrpo",
     "neither spread nor length divides",
     {{"advantage", "drgrpo"}, {"loss", "ppo"}, {"clip-low", "0.2"}, {"clip-high", "0.2"}, {"agg", "fixed-length"}, {"kl", "off"}}},
    {"april",
     "the paper's update, which corrects nothing",
     {{"advantage", "grpo"},
      {"loss", "ppo"},
      {"clip-low", "0.2"},
      {"clip-high", "0.28"},
      {"old", "current"},
      {"is-correction", "none"},
      {"agg", "seq-mean"},
      {"kl", "off"},
      {"optimizer-steps", "1"}}},
};

}  // namespace

std::span<const Preset> Presets() { return kPresets; }

std::string ApplyPreset(const std::function<bool(const std::string&)>& given, MethodOptions* options) {
  std::string set;
  const Preset& preset = FindRule(Presets(), "preset", options->preset);
  const auto is_loss = [](const auto& option) { return option.first == std::string("loss"); };
  const auto loss = std::find_if(preset.options.begin(), preset.options.end(), is_loss);
  const bool has_own_loss = loss == preset.options.end() || !given("loss") || options->loss == loss->second;
  for (const auto& [name, value] : preset.options) {
    if (given(name)) continue;
    if (std::string_view(name).starts_with("clip-") && !has_own_loss) continue;  // the bounds are those of the preset's loss
    if (name == std::string("kl-coef") && options->kl == "off") continue;        // --kl off was given: there is nothing to weigh
    Assignment assignment(name, value);
    options->Register(assignment);
    set += (set.empty() ? "--" : " --") + std::string(name) + " " + value;
  }
  return set;
}

}  // namespace april::grpo
