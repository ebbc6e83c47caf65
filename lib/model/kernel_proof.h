// The proof that a kernel set keeps its promise on this machine, made once and remembered.
#pragma once

#include <string>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "model/config.h"

namespace april::model {

/// Where proofs are remembered: $XDG_CACHE_HOME/april, else ~/.cache/april; "" when neither is named.
std::string ProofDirectory();

/// Runs kernels::SelfTest for the shapes of such a model, unless `directory` remembers that the same program passed it on such a processor, with this
/// set, these shapes and so many threads. Says so when it takes a while. A directory that cannot be written is as good as none: then it is run each
/// time.
///   Throws Runtime saying what differed: log-probabilities of this machine could not be trusted.   Cost  seconds, once.
void ProveKernels(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool, const std::string& directory);

}  // namespace april::model
