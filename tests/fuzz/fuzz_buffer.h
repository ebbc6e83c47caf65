// A small buffer in memory that the targets of this directory begin with.
#pragma once

#include <memory>

#include "../unit/buffer/buffer_support.h"
#include "../unit/buffer/memory_files.h"
#include "base/log.h"

namespace april::test {

constexpr const char* kDirectory = "buffer";

/// Two prompts, nothing leased.
inline std::unique_ptr<buffer::Store> NewBuffer(MemoryFiles& files, const Clock& clock) {
  log::Configure("fuzz", log::Level::kQuiet);
  buffer::Store::Init(files, clock, kDirectory, SmallConfig());
  auto store = std::make_unique<buffer::Store>(files, clock, kDirectory);
  AddPrompts(*store, 2);
  return store;
}

}  // namespace april::test
