#include "grpo/recorded_step.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "record/checkpoint_name.h"
#include "weights/convert.h"
#include "weights/safetensors.h"

namespace april::grpo {
namespace {

constexpr const char* kHint =
    "a replay needs the same build, kernel set, number of ranks and options as the recorded run: give --lr, --kernels and all others as they were";

/// One element of a tensor, for a person.
std::string Element(const weights::TensorView& tensor, uint64_t index) {
  char text[32];
  if (tensor.dtype == weights::DType::kBf16) {
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(weights::Bf16ToF32(static_cast<const uint16_t*>(tensor.data)[index])));
  } else {
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(static_cast<const float*>(tensor.data)[index]));
  }
  return text;
}

/// "NAME: 12 of 331776 elements, the first at 7: 0.25, recorded 0.125". Both have one dtype and shape.
std::string Difference(const weights::TensorView& seen, const weights::TensorView& recorded) {
  const uint64_t size = seen.num_bytes / static_cast<uint64_t>(std::max<int64_t>(1, seen.NumElements()));
  const auto *a = static_cast<const char*>(seen.data), *b = static_cast<const char*>(recorded.data);
  uint64_t differing = 0, first = 0;
  for (uint64_t i = 0; i < seen.num_bytes / size; ++i) {
    if (std::memcmp(a + i * size, b + i * size, size) == 0) continue;
    if (differing++ == 0) first = i;
  }
  return seen.name + ": " + std::to_string(differing) + " of " + std::to_string(seen.NumElements()) + " elements, the first at " +
         std::to_string(first) + ": " + Element(seen, first) + ", recorded " + Element(recorded, first);
}

/// The first tensor, in our order, that a file has with other bits; "" when all of the file's are ours.
std::string FirstDifference(const std::vector<weights::TensorView>& ours, const weights::SafetensorsFile& file) {
  for (const weights::TensorView& tensor : ours) {
    const auto found = std::find_if(file.tensors().begin(), file.tensors().end(), [&](const auto& other) { return other.name == tensor.name; });
    if (found == file.tensors().end()) return tensor.name + " is not in " + file.path();
    if (found->dtype != tensor.dtype || found->shape != tensor.shape) return tensor.name + " has another type or shape in " + file.path();
    if (std::memcmp(found->data, tensor.data, tensor.num_bytes) != 0) return Difference(tensor, *found);
  }
  return "";
}

}  // namespace

std::optional<std::string> CompareWithRecords(const Claim& claim, const State& state, uint64_t weights, uint64_t optimizer,
                                              weights::VersionStore& versions, CheckpointStore& checkpoints) {
  std::optional<uint64_t> recorded = claim.trained_weights;
  std::string sources = recorded ? "the buffer" : "";
  const auto add = [&sources](const std::string& source) { sources += (sources.empty() ? "" : ", ") + source; };

  // A version or checkpoint of that number may be of a course that was left: it counts when it is of the recorded weights, or nothing else is
  // recorded.
  std::string model_file, optimizer_file;
  if (versions.HasVersion(state.version)) {
    const weights::Version version = versions.Open(state.version);
    if (!recorded) recorded = version.manifest.digest;
    if (*recorded == version.manifest.digest) {
      model_file = JoinPath(version.directory, "model.safetensors");
      add(version.directory);
    }
  }
  const std::string name = record::CheckpointName(state.step);
  if (const auto written = checkpoints.WeightsOf(name)) {
    if (!recorded) recorded = written;
    if (*recorded == *written) {
      model_file = checkpoints.ModelFile(name);
      if (state.IsWhole()) optimizer_file = checkpoints.OptimizerFile(name);
      add(checkpoints.PathOf(name) + (state.IsWhole() ? " with its optimiser state" : ""));
    }
  }
  if (!recorded) return std::nullopt;

  const std::string what = "step " + std::to_string(claim.step) + " (claim " + claim.id + "), computed again, ";
  if (weights != *recorded) {
    const std::string tensor = model_file.empty() ? "" : FirstDifference(state.RoundedViews(), weights::SafetensorsFile(model_file));
    throw Error::Data(what + "gives weights " + HexU64(weights) + ", recorded " + HexU64(*recorded) + "; " +
                          (tensor.empty() ? "which tensors differ cannot be told: neither a published version nor a checkpoint of it is kept"
                                          : "the first tensor that differs is " + tensor),
                      kHint);
  }
  if (!optimizer_file.empty()) {
    std::string tensor = FirstDifference(state.OptimizerViews(), weights::SafetensorsFile(optimizer_file));
    if (tensor.empty() && state.adapter().exists()) {
      tensor = FirstDifference(state.FactorViews(), weights::SafetensorsFile(checkpoints.AdapterFile(name)));
    }
    if (!tensor.empty()) throw Error::Data(what + "gives the recorded weights, but another optimiser state: " + tensor, kHint);
  } else if (const auto behind = checkpoints.OptimizerBehind(claim.id, weights)) {
    if (behind->digest != optimizer) {
      throw Error::Data(what + "gives the recorded weights, but another optimiser state: its digest is " + HexU64(optimizer) + ", " + behind->path +
                            " has " + HexU64(behind->digest),
                        kHint);
    }
    add("the optimiser state as " + behind->path + " has it");
  } else {
    sources += "; the optimiser state was not compared: no steps.json has its digest";
  }
  return sources;
}

}  // namespace april::grpo
