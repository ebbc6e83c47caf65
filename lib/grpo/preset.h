// --preset: the options of a published method under one name.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "grpo/method.h"

namespace april::grpo {

struct Preset {
  const char* name;
  const char* help;
  std::vector<std::pair<const char*, const char*>> options;  ///< long name, value
};
std::span<const Preset> Presets();

/// Sets what options->preset names, except what was `given` by itself. Returns the options that it set ("--loss gspo --agg seq-mean"); "" without a
/// preset. Throws Usage naming the choices.
std::string ApplyPreset(const std::function<bool(const std::string&)>& given, MethodOptions* options);

}  // namespace april::grpo
