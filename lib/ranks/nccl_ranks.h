// Ranks whose large exchanges go through their GPUs: over NVLink, or a network that belongs to the GPUs.
#pragma once

#include <memory>
#include <string>

#include "ranks/ranks.h"
#include "ranks/watch.h"

namespace april::ranks {

/// What ranks have to agree on: "nccl 2.28.9". Throws Usage when this build or this machine has no NCCL, no CUDA runtime or no GPU.
std::string FindNccl();
/// Connects this rank's GPU with those of all others. The watch is that of `gloo`, over which small exchanges still go. Throws as Ranks::Join does.
std::unique_ptr<Ranks> ConnectNccl(const Place& place, Watch& watch, std::unique_ptr<Ranks> gloo);

}  // namespace april::ranks
