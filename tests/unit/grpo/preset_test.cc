// Presets set what they say, nothing that was given, and every combination is allowed.
#include "grpo/preset.h"

#include <catch2/catch.hpp>
#include <set>

#include "base/error.h"

using namespace april;
using namespace april::grpo;

namespace {

Method Applied(const std::string& preset, const std::set<std::string>& given = {}, MethodOptions options = {}) {
  options.preset = preset;
  ApplyPreset([&](const std::string& name) { return given.contains(name); }, &options);
  return ParseMethod(options);
}

}  // namespace

TEST_CASE("presets are the published methods") {
  CHECK(Applied("none").Text() == ParseMethod({}).Text());
  CHECK(Applied("grpo").Text() == "advantage=grpo adv-std=unbiased loss=ppo clip=0.2,0.2 old=current is-correction=tis:2 agg=seq-mean kl=k3:0.04");
  CHECK(Applied("dapo").Text() == "advantage=grpo adv-std=unbiased loss=ppo clip=0.2,0.28 old=current is-correction=tis:2 agg=token-mean kl=off");
  CHECK(Applied("gspo").Text() ==
        "advantage=grpo adv-std=unbiased loss=gspo clip=0.0003,0.0004 old=current is-correction=tis:2 agg=seq-mean kl=off optimizer-steps=4");
  CHECK(Applied("drgrpo").Text() == "advantage=drgrpo adv-std=none loss=ppo clip=0.2,0.2 old=current is-correction=tis:2 agg=fixed-length kl=off");
  CHECK(Applied("april").Text() == "advantage=grpo adv-std=unbiased loss=ppo clip=0.2,0.28 old=current is-correction=none agg=seq-mean kl=off");
  CHECK_THROWS_WITH(Applied("ppo"), Catch::Contains("none, grpo, dapo"));
}

TEST_CASE("what was given wins, be it a default, and what was set is told") {
  MethodOptions options;
  options.preset = "grpo";
  const auto given = [](const std::string& name) { return name == "clip-high" || name == "kl"; };
  CHECK(ApplyPreset(given, &options) == "--advantage grpo --loss ppo --clip-low 0.2 --agg seq-mean");
  CHECK(ParseMethod(options).loss.clip.high == 0.28);
  CHECK(!ParseMethod(options).UsesReference());
  options.preset = "none";
  CHECK(ApplyPreset(given, &options).empty());
}

TEST_CASE("every preset goes with every advantage that is given beside it, whose own spread divides unless --adv-std says another") {
  for (const Preset& preset : Presets()) {
    for (const AdvantageRule& rule : AdvantageRules()) {
      INFO(preset.name << " --advantage " << rule.name);
      MethodOptions options;
      options.advantage = rule.name;
      const Method method = Applied(preset.name, {"advantage"}, options);
      CHECK(method.spread->name == std::string(rule.spread));
      CHECK(!method.spread_was_chosen);  // so that groups of two are warned of
    }
  }
}

TEST_CASE("a loss that is given beside a preset keeps its own clip bounds") {
  for (const Preset& preset : Presets()) {
    for (const PolicyRule& rule : PolicyRules()) {
      INFO(preset.name << " --loss " << rule.name);
      MethodOptions options;
      options.loss = rule.name;
      const Method alone = ParseMethod(options), method = Applied(preset.name, {"loss"}, options), own = Applied(preset.name);
      CHECK(method.loss.policy == &rule);
      const ClipBounds& bounds = own.loss.policy == &rule ? own.loss.clip : alone.loss.clip;
      CHECK(method.loss.clip.low == bounds.low);
      CHECK(method.loss.clip.high == bounds.high);
    }
  }
}

TEST_CASE("every option of a preset exists, and takes its value") {
  for (const Preset& preset : Presets()) {
    for (const auto& [name, value] : preset.options) {
      INFO(preset.name << " --" << name << " " << value);
      MethodOptions changed;
      changed.advantage = changed.adv_std = changed.loss = changed.clip_low = changed.clip_high = changed.old = changed.is_correction = changed.agg =
          changed.kl = "other";
      changed.kl_coef = 77;
      changed.optimizer_steps = 77;
      if (std::string_view(name).starts_with("clip-")) {
        for (const auto& [other, own] : preset.options) {
          if (other == std::string("loss")) changed.loss = own;
        }
      }
      const auto only = [name = std::string(name)](const std::string& other) { return other != name; };
      changed.preset = preset.name;
      CHECK(ApplyPreset(only, &changed) == "--" + std::string(name) + " " + value);
    }
  }
}
