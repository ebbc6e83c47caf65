// Ranks whose data go over Gloo's connections.
#pragma once

#include <memory>

#include "ranks/ranks.h"
#include "ranks/watch.h"

namespace april::ranks {

/// Connects this rank with all others. The watch lives as long as what is returned. Throws as Ranks::Join does.
std::unique_ptr<Ranks> ConnectGloo(const Place& place, std::unique_ptr<Watch> watch);

}  // namespace april::ranks
