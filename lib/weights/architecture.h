// The tensors that a model must have, by its configuration, with their names in both kinds of file.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "weights/gguf.h"

namespace april::weights {

struct ExpectedTensor {
  std::string name;  ///< Hugging Face's
  std::string gguf_name;
  std::vector<int64_t> shape;
  int64_t permuted_heads = 0;  ///< > 0: in a GGUF file each of so many heads has its rows interleaved (llama's q and k)
};

/// From config.json's content. `subject` names the file in messages. Throws Incompatible naming the key, seen and supported.
std::vector<ExpectedTensor> ExpectedTensors(const Json& config, const std::string& subject);

/// config.json's content from GGUF metadata. Throws Incompatible (architecture or scaling not supported), Data (key missing or of another type).
///   Source  key names of the GGUF specification; the meaning of config.json's keys is transformers'.
Json ConfigOfGguf(const GgufFile& file);

}  // namespace april::weights
