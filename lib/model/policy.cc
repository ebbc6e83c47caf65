#include "model/policy.h"

#include <algorithm>
#include <cstring>

#include "base/available_memory.h"
#include "base/bytes.h"
#include "base/error.h"
#include "model/packed_policy.h"

namespace april::model {
namespace {

void CheckSizes(const Config& config) {
  const auto refuse = [&](const char* what, int64_t seen, const std::string& supported) {
    throw Error::Incompatible(config.architecture + ": " + what + " is " + std::to_string(seen) + ", supported: " + supported);
  };
  if (config.head_dim % kernels::kLanes != 0 || config.head_dim > kernels::kMaxHeadDim) {
    refuse("head_dim", config.head_dim, "multiples of " + std::to_string(kernels::kLanes) + " up to " + std::to_string(kernels::kMaxHeadDim));
  }
  if (config.group() > kernels::kMaxHeadsPerKv)
    refuse("query heads per key head", config.group(), "up to " + std::to_string(kernels::kMaxHeadsPerKv));
  if (config.hidden % 2 != 0) refuse("hidden_size", config.hidden, "even numbers");
  if (config.intermediate % 2 != 0) refuse("intermediate_size", config.intermediate, "even numbers");
}

/// Runs `task` on [0, count) over the pool.
template <typename Task>
void Parallel(kernels::ThreadPool& pool, int64_t count, const Task& task) {
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    for (int64_t i; (i = worker.NextTask(count)) >= 0;) task(i);
  });
}

bool SameParameters(const Config& a, const Config& b) {
  const auto same = [](const ParameterSpec& x, const ParameterSpec& y) { return x.name == y.name && x.shape == y.shape; };
  const std::vector<ParameterSpec> of_a = Parameters(a), of_b = Parameters(b);
  return std::equal(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(), same);
}

weights::DType ElementType(const kernels::Kernels& kernels) { return kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32; }

}  // namespace

/// Takes parameters in order from the source and packs each.
struct PackedPolicy::Loader {
  const Config& config;
  const Source& source;
  const kernels::Kernels& kernels;
  kernels::ThreadPool& pool;
  uint64_t* num_bytes;
  std::vector<ParameterSpec> specs = Parameters(config);
  size_t next = 0;
  kernels::Memory buffer = {};

  /// The next parameter, row-major; valid until the next call.
  const void* Take() {
    const ParameterSpec& spec = specs[next];
    int64_t count = 1;
    for (const int64_t size : spec.shape) count *= size;
    const size_t bytes = static_cast<size_t>(count * kernels.element_bytes);
    if (buffer.size() < bytes) buffer = kernels::Memory(bytes);
    return source(next++, spec, buffer.data());
  }

  /// The embedding's rows are looked up: they stay as they are.
  void Embedding(kernels::Memory* to) {
    constexpr size_t kChunk = size_t{1} << 20;
    const auto bytes = static_cast<size_t>(config.vocab * config.hidden * kernels.element_bytes);
    if (to->size() != bytes) *to = kernels::Memory(bytes);
    const void* from = Take();
    Parallel(pool, static_cast<int64_t>((bytes + kChunk - 1) / kChunk), [&](int64_t i) {
      const size_t begin = static_cast<size_t>(i) * kChunk;
      std::memcpy(to->as<char>() + begin, static_cast<const char*>(from) + begin, std::min(kChunk, bytes - begin));
    });
    *num_bytes += bytes;
  }

  std::vector<float> Vector(int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    kernels.to_float(Take(), values.data(), size);
    *num_bytes += values.size() * sizeof(float);
    return values;
  }

  void Pack(const void* w, const PackedMatrix& matrix) {
    const int64_t block = kernels.column_block, k = matrix.k;
    Parallel(pool, (matrix.n + block - 1) / block, [&](int64_t i) {
      const void* rows = static_cast<const char*>(w) + i * block * k * kernels.element_bytes;
      kernels.pack({rows, k, std::min(block, matrix.n - i * block), k, i * block, matrix.packed});
    });
  }

  /// w [n, k] as rows [reduce_begin, reduce_begin + n) of the reduction of `matrix`, whose output columns are w's columns.
  void PackTransposed(const void* w, int64_t n, int64_t reduce_begin, const PackedMatrix& matrix) {
    const int64_t block = kernels.column_block, k = matrix.n;
    Parallel(pool, (k + block - 1) / block, [&](int64_t i) {
      kernels.pack_transposed({w, k, n, i * block, std::min(k, (i + 1) * block), reduce_begin, matrix.k, matrix.packed});
    });
  }

  void HeadSlices(const void* w, const std::vector<PackedMatrix>& slices) {
    const size_t row_bytes = static_cast<size_t>(config.hidden * kernels.element_bytes);
    for (size_t i = 0; i < slices.size(); ++i) {
      const int64_t begin = static_cast<int64_t>(i) * kHeadSlice, n = std::min(kHeadSlice, config.vocab - begin), even = slices[i].k;
      const char* rows = static_cast<const char*>(w) + static_cast<size_t>(begin) * row_bytes;
      std::vector<char> padded;
      if (even != n) {
        padded.resize(static_cast<size_t>(even) * row_bytes);
        std::memcpy(padded.data(), rows, static_cast<size_t>(n) * row_bytes);
        rows = padded.data();
      }
      PackTransposed(rows, even, 0, slices[i]);
    }
  }

  void Layer(PackedLayer* layer, bool for_training) {
    const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim, hidden = config.hidden, inner = config.intermediate;
    const auto matrix = [&](const PackedMatrix& to, const PackedMatrix& transposed, int64_t reduce_begin) {
      const void* w = Take();
      if (for_training) PackTransposed(w, to.n, reduce_begin, transposed);
      Pack(w, to);
    };
    layer->norm1 = Vector(hidden);
    matrix(layer->q, layer->qkv_t, 0);
    matrix(layer->k, layer->qkv_t, q);
    matrix(layer->v, layer->qkv_t, q + kv);
    if (config.attention_bias) {
      layer->q_bias = Vector(q);
      layer->k_bias = Vector(kv);
      layer->v_bias = Vector(kv);
    }
    if (config.qk_norm) {
      layer->q_norm = Vector(config.head_dim);
      layer->k_norm = Vector(config.head_dim);
    }
    matrix(layer->o, layer->o_t, 0);
    layer->norm2 = Vector(hidden);
    matrix(layer->gate, layer->gate_up_t, 0);
    matrix(layer->up, layer->gate_up_t, inner);
    matrix(layer->down, layer->down_t, 0);
  }
};

size_t PackedPolicy::Place(char* base) {
  constexpr size_t kAlignment = 64;
  const int64_t q = config_.heads * config_.head_dim, kv = config_.kv_heads * config_.head_dim, hidden = config_.hidden, inner = config_.intermediate;
  size_t used = 0;
  const auto place = [&](PackedMatrix* matrix, int64_t n, int64_t k) {
    *matrix = {base == nullptr ? nullptr : base + used, n, k};
    used += (kernels_.packed_bytes(n, k) + kAlignment - 1) / kAlignment * kAlignment;
  };
  for (PackedLayer& layer : layers_) {
    place(&layer.q, q, hidden);
    place(&layer.k, kv, hidden);
    place(&layer.v, kv, hidden);
    place(&layer.o, hidden, q);
    place(&layer.gate, inner, hidden);
    place(&layer.up, inner, hidden);
    place(&layer.down, hidden, inner);
  }
  place(&head_, config_.vocab, hidden);
  if (!for_training_) return used;
  for (size_t i = 0; i < head_t_.size(); ++i) {
    const int64_t n = std::min(kHeadSlice, config_.vocab - static_cast<int64_t>(i) * kHeadSlice);
    place(&head_t_[i], hidden, n + n % 2);
  }
  for (PackedLayer& layer : layers_) {
    place(&layer.down_t, inner, hidden);
    place(&layer.gate_up_t, hidden, 2 * inner);
    place(&layer.o_t, q, hidden);
    place(&layer.qkv_t, hidden, q + 2 * kv);
  }
  return used;
}

PackedPolicy::PackedPolicy(const Config& config, const Source& source, const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
                           PackedPolicy* spare)
    : config_(config), kernels_(kernels), for_training_(for_training) {
  CheckSizes(config_);
  layers_.resize(static_cast<size_t>(config_.layers));
  if (for_training_) head_t_.resize(static_cast<size_t>((config_.vocab + kHeadSlice - 1) / kHeadSlice));
  if (spare && for_training_ == spare->for_training_ && &kernels_ == &spare->kernels_ && SameParameters(config_, spare->config_)) {
    embedding_ = std::move(spare->embedding_);
    matrices_ = std::move(spare->matrices_);  // what its padding must be, zero, it was before
  } else {
    RequireMemory(Place(nullptr) + static_cast<size_t>(config_.vocab * config_.hidden * kernels_.element_bytes), "a copy of the model's weights",
                  "a machine or job with more memory, or a smaller model");
    matrices_ = kernels::Memory(Place(nullptr));
  }
  num_bytes_ = Place(matrices_.as<char>());
  Loader loader{config_, source, kernels_, pool, &num_bytes_};
  const auto last_matrix = [&](const void* w) {
    loader.Pack(w, head_);
    loader.HeadSlices(w, head_t_);
  };
  loader.Embedding(&embedding_);
  if (config_.tied_embeddings) last_matrix(embedding_.data());
  for (PackedLayer& layer : layers_) loader.Layer(&layer, for_training_);
  final_norm_ = loader.Vector(config_.hidden);
  if (!config_.tied_embeddings) last_matrix(loader.Take());
}

namespace {

/// The policy whose memory may be taken: null when there is none, or somebody else holds it, too. All policies are made below, and none is const
/// there.
PackedPolicy* Taken(const std::shared_ptr<const Policy>& spare) {
  return spare.use_count() == 1 ? const_cast<PackedPolicy*>(&PackedPolicy::Of(*spare)) : nullptr;
}

}  // namespace

std::shared_ptr<const Policy> Policy::Load(const weights::ModelFiles& files, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                                           const std::shared_ptr<const Policy>& spare) {
  const weights::DType type = ElementType(kernels);
  const auto source = [&](size_t, const ParameterSpec& spec, void* room) -> const void* {
    const weights::TensorView* view = files.Find(spec.name);
    if (view && view->data && view->dtype == type && view->shape == spec.shape) return view->data;  // as it lies in the file
    files.Read(spec.name, spec.shape, type, room);
    return room;
  };
  return std::make_shared<PackedPolicy>(Config::FromJson(files.config()), source, kernels, pool, false, Taken(spare));
}

std::shared_ptr<const Policy> Policy::FromTensors(const Config& config, const std::vector<weights::TensorView>& tensors,
                                                  const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
                                                  const std::shared_ptr<const Policy>& spare) {
  const auto source = [&](size_t index, const ParameterSpec& spec, void*) {
    const weights::TensorView* view = index < tensors.size() ? &tensors[index] : nullptr;
    if (!view || view->shape != spec.shape || view->dtype != ElementType(kernels)) {
      throw Error::Data("tensor " + std::to_string(index) + " is not " + spec.name + " of the expected shape in " +
                        weights::Name(ElementType(kernels)));
    }
    return view->data;
  };
  return std::make_shared<PackedPolicy>(config, source, kernels, pool, for_training, Taken(spare));
}

}  // namespace april::model
