// rollout-gen --profile: this machine and a model as a simulation profile.
#pragma once

#include <string>

#include "base/invocation.h"
#include "rollout/generator.h"
#include "stream/endpoint.h"

namespace april::rollout {

/// Measures the generator's engine, at 64 rows unless --in-flight says otherwise, and writes the profile to `path`. Lengths: those of the finished
/// rollouts of --in when it was given; of a run that tells nothing about them, an example that has to be replaced, which `source` says.
void WriteProfile(const std::string& path, const stream::Endpoints& io, Generator& generator, Invocation& invocation);

}  // namespace april::rollout
