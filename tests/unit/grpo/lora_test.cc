// LoRA: the factors' products, one update against tests/parity/lora_reference.py, and a trainer's life with an adapter.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "fixtures.h"
#include "grpo/adapter.h"
#include "grpo/batch.h"
#include "grpo/low_rank.h"
#include "grpo/session.h"
#include "grpo/trainer.h"
#include "kernels/kernels.h"
#include "reference.h"
#include "weights/convert.h"
#include "weights/model_files.h"

using namespace april;
using namespace april::grpo;

namespace {

std::vector<float> RandomValues(size_t count, uint64_t id) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(2 * RandomUnit(4, RandomUse::kTest, id, i) - 1));
  return values;
}

/// A matrix with everything that is computed of it.
struct Matrix {
  Matrix(int64_t rows, int64_t columns, int64_t inner, uint64_t id)
      : n(rows),
        k(columns),
        rank(inner),
        a(RandomValues(Count(rank, k), id)),
        b(RandomValues(Count(n, rank), id + 1)),
        dw(RandomValues(Count(n, k), id + 2)),
        da(Count(rank, k), NAN),
        db(Count(n, rank), NAN),
        merged(Count(n, k)) {
    for (const float value : RandomValues(Count(n, k), id + 3)) base.push_back(weights::F32ToBf16(value));
  }
  static size_t Count(int64_t x, int64_t y) { return static_cast<size_t>(x * y); }
  double A(int64_t r, int64_t j) const { return static_cast<double>(a[static_cast<size_t>(r * k + j)]); }
  double B(int64_t i, int64_t r) const { return static_cast<double>(b[static_cast<size_t>(i * rank + r)]); }
  double DW(int64_t i, int64_t j) const { return static_cast<double>(dw[static_cast<size_t>(i * k + j)]); }

  int64_t n, k, rank;
  std::vector<float> a, b, dw, da, db;
  std::vector<uint16_t> base, merged;
};

void Compute(std::vector<Matrix>* matrices, float scale, int threads) {
  kernels::ThreadPool pool(threads);
  std::vector<MergeArgs> merges;
  std::vector<FactorGradientArgs> gradients;
  for (Matrix& m : *matrices) {
    merges.push_back({m.n, m.k, m.base.data(), m.a.data(), m.b.data(), m.merged.data()});
    gradients.push_back({m.n, m.k, m.dw.data(), m.a.data(), m.b.data(), m.da.data(), m.db.data()});
  }
  Merge(merges, matrices->front().rank, scale, pool);
  FactorGradients(gradients, matrices->front().rank, scale, pool);
}

/// Whether `seen` is a bf16 number next to `exact`, of which f32 sums are off by `error` at most.
bool IsRounded(uint16_t seen, double exact, double error) {
  const double spacing = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 7);
  return std::abs(static_cast<double>(weights::Bf16ToF32(seen)) - exact) <= spacing / 2 + error;
}

struct LoraRig {
  LoraRig() { WriteTinyModel(scratch / "model"); }
  SessionOptions Options(const std::string& name = "run") const {
    SessionOptions options;
    options.from = scratch / (name + "/checkpoints");
    options.publish = scratch / (name + "/weights");
    options.model = scratch / "model";
    options.checkpoint_every = 2;
    options.optimizer.lr = 1e-2;
    options.precision = "f32";
    options.adapter.rank = 4;
    options.adapter.alpha = 8;
    return options;
  }
  std::string Weights(const std::string& name, int64_t version) const {
    return ReadFile(SystemFiles(), Version(name, version) + "/model.safetensors");
  }
  std::string Version(const std::string& name, int64_t version) const {
    char directory[32];
    std::snprintf(directory, sizeof directory, "/weights/v%08lld", static_cast<long long>(version));
    return scratch / (name + directory);
  }
  ScratchDirectory scratch;
};

void TrainMixedUntil(Session& session, int64_t end) {
  session.CheckHeader(TestHeader());
  for (int64_t step = session.step(); step < end; ++step) {
    StepReport report = session.Train(MakeMixedClaim(step));
    session.Settle(&report);
  }
}

void Run(const SessionOptions& options, int threads, int64_t end) {
  Session session(options, threads);
  TrainMixedUntil(session, end);
}

std::vector<float> Values(const weights::ModelFiles& files, const model::ParameterSpec& parameter) {
  size_t size = 1;
  for (const int64_t extent : parameter.shape) size *= static_cast<size_t>(extent);
  std::vector<float> values(size);
  files.Read(parameter.name, parameter.shape, weights::DType::kF32, values.data());
  return values;
}

/// A factor in a checkpoint's adapter, as it is on disk.
std::span<const float> Factor(const weights::SafetensorsFile& file, const std::string& name) {
  const auto found = std::find_if(file.tensors().begin(), file.tensors().end(), [&](const auto& tensor) { return tensor.name == name; });
  REQUIRE(found != file.tensors().end());
  REQUIRE(found->dtype == weights::DType::kF32);
  return {static_cast<const float*>(found->data), found->num_bytes / 4};
}

}  // namespace

TEST_CASE("merging and the factors' gradients equal plain f64 sums, on any number of threads") {
  for (const int64_t rank : {1, 3, 16, 130}) {
    const float scale = 1.75f;
    std::vector<Matrix> matrices, again;
    for (auto* list : {&matrices, &again}) {
      list->emplace_back(200, 150, rank, 0);
      list->emplace_back(130, 258, rank, 10);
    }
    Compute(&matrices, scale, 1);
    Compute(&again, scale, 2);
    INFO("rank " << rank);
    for (size_t index = 0; index < matrices.size(); ++index) {
      const Matrix& m = matrices[index];
      CHECK((m.merged == again[index].merged && m.da == again[index].da && m.db == again[index].db));
      double merge_errors = 0, worst_a = 0, worst_b = 0;
      for (int64_t i = 0; i < m.n; ++i) {
        for (int64_t j = 0; j < m.k; ++j) {
          const auto at = static_cast<size_t>(i * m.k + j);
          double product = 0;
          for (int64_t r = 0; r < rank; ++r) product += m.B(i, r) * m.A(r, j);
          const double exact = static_cast<double>(weights::Bf16ToF32(m.base[at])) + static_cast<double>(scale) * product;
          merge_errors += !IsRounded(m.merged[at], exact, 1e-5);
        }
        for (int64_t r = 0; r < rank; ++r) {
          double exact = 0;
          for (int64_t j = 0; j < m.k; ++j) exact += static_cast<double>(scale) * m.DW(i, j) * m.A(r, j);
          worst_b = std::max(worst_b, std::abs(static_cast<double>(m.db[static_cast<size_t>(i * rank + r)]) - exact));
        }
      }
      for (int64_t r = 0; r < rank; ++r) {
        for (int64_t j = 0; j < m.k; ++j) {
          double exact = 0;
          for (int64_t i = 0; i < m.n; ++i) exact += static_cast<double>(scale) * m.B(i, r) * m.DW(i, j);
          worst_a = std::max(worst_a, std::abs(static_cast<double>(m.da[static_cast<size_t>(r * m.k + j)]) - exact));
        }
      }
      CHECK(merge_errors == 0);
      CHECK(worst_a < 1e-4);
      CHECK(worst_b < 1e-4);
    }
  }
}

TEST_CASE("where the factors' product is zero, merging leaves the base's bits") {
  std::vector<Matrix> matrices;
  matrices.emplace_back(130, 66, 5, 0);
  std::ranges::fill(matrices[0].b, 0.0f);
  matrices[0].base[7] = 0x8000;  // minus zero
  Compute(&matrices, 2, 1);
  CHECK(matrices[0].merged == matrices[0].base);
}

TEST_CASE("loss, the factors' gradients and the new factors equal the f64 reference") {
  const Json reference = ReadReference("lora_reference.json");
  const auto config = model::Config::FromJson(reference["config"]);
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kF32);
  kernels::ThreadPool pool(1);
  ScratchDirectory scratch;
  std::vector<std::vector<float>> values;
  for (const model::ParameterSpec& parameter : model::Parameters(config)) values.push_back(Unpack(reference["base"][parameter.name]));
  WriteModel(scratch / "base", reference["config"], values);

  State state(config, MakeAdapter({reference["rank"], reference["alpha"], reference["targets"]}, config));
  REQUIRE(state.trainables().size() == reference["factors"].size());
  state.LoadModel(*weights::ModelFiles::Open(scratch / "base"), 0, pool);
  for (size_t i = 0; i < state.trainables().size(); ++i)
    std::ranges::copy(Unpack(reference["factors"][state.trainables()[i].name]), state.Master(i).begin());
  state.Round(pool);
  for (const Adapter::Target& target : state.adapter().targets) {
    const auto merged = Unpack(reference["merged"][state.parameters()[target.parameter].name]);
    const auto seen = state.Rounded(target.parameter);
    for (size_t i = 0; i < merged.size(); ++i) REQUIRE(weights::Bf16ToF32(seen[i]) == merged[i]);
  }

  MethodOptions options;
  options.is_correction = "none";
  TrainerOptions training;
  training.method = ParseMethod(options);
  training.optimizer.lr = reference["lr"];
  training.optimizer.weight_decay = reference["weight_decay"];
  training.optimizer.max_grad_norm = 0;
  const auto ranks = ranks::Ranks::Alone();
  Trainer trainer(training, kernels, pool, &state, nullptr, *ranks);
  const Claim claim = ReferenceClaim(reference, 1);
  const UpdateResult result = trainer.Update(MakeBatch(claim, training.method, {config.vocab, config.max_positions, 0, 0, kernels.name}));
  REQUIRE(!result.failure);
  CHECK(result.metrics.loss == Approx(reference["loss"].get<double>()).epsilon(1e-5));
  double worst = 0;
  for (size_t i = 0; i < state.trainables().size(); ++i) {
    const std::string& name = state.trainables()[i].name;
    INFO(name);
    const auto gradient = Unpack(reference["gradients"][name]);
    REQUIRE(gradient.size() == state.Master(i).size());
    const double error = RelativeError(state.FirstMoment(i), gradient, 10);  // AdamW's first mean is a tenth of the gradient
    worst = std::max(worst, error);
    CHECK(error < 1e-5);
    const auto factors = Unpack(reference["factors_after"][name]);
    for (size_t j = 0; j < factors.size(); ++j) {
      if (std::abs(gradient[j]) > 1e-5f) CHECK(std::abs(state.Master(i)[j] - factors[j]) < 1e-5f);
    }
  }
  std::printf("largest relative error of a factor's gradient: %.2e\n", worst);
}

TEST_CASE("the first version is the base, and later ones are the base with the checkpoint's factors merged") {
  LoraRig rig;
  SessionOptions options = rig.Options(), plain = rig.Options("plain");
  options.adapter.targets = "q,o,up,down";
  plain.adapter = {};
  Run(options, 1, 2);
  Run(plain, 1, 0);
  CHECK(rig.Weights("run", 0) == rig.Weights("plain", 0));

  const auto base = weights::ModelFiles::Open(rig.Version("run", 0)), merged = weights::ModelFiles::Open(rig.Version("run", 2));
  const std::string checkpoint = options.from + "/step-00000002";
  CHECK(ReadFile(SystemFiles(), checkpoint + "/model.safetensors") == rig.Weights("run", 2));
  const weights::SafetensorsFile adapter(checkpoint + "/adapter/adapter_model.safetensors");
  CHECK(adapter.tensors().size() == 2 * 4 * 2);
  const Json config = Json::parse(ReadFile(SystemFiles(), checkpoint + "/adapter/adapter_config.json"));
  CHECK(config["r"] == 4);
  CHECK(config["lora_alpha"] == 8);
  CHECK(config["target_modules"] == Json({"q_proj", "o_proj", "up_proj", "down_proj"}));
  CHECK(config["base_model_name_or_path"] == rig.scratch / "model");

  for (const auto& parameter : model::Parameters(model::Config::FromJson(TinyConfig()))) {
    INFO(parameter.name);
    const std::vector<float> before = Values(*base, parameter), after = Values(*merged, parameter);
    const std::string module = "base_model.model." + parameter.name.substr(0, parameter.name.rfind('.'));
    const bool adapted =
        std::any_of(adapter.tensors().begin(), adapter.tensors().end(), [&](const auto& t) { return t.name == module + ".lora_A.weight"; });
    CHECK((before != after) == adapted);
    if (!adapted) continue;
    const auto a = Factor(adapter, module + ".lora_A.weight"), b = Factor(adapter, module + ".lora_B.weight");
    const auto k = static_cast<size_t>(parameter.shape[1]);
    int64_t wrong = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      double exact = static_cast<double>(before[i]);
      for (size_t r = 0; r < 4; ++r) exact += 2 * static_cast<double>(b[i / k * 4 + r]) * static_cast<double>(a[r * k + i % k]);
      wrong += !IsRounded(weights::F32ToBf16(after[i]), exact, 1e-7);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("with an adapter, micro-batch size and threads never change a bit, and resuming gives the uninterrupted run", "[heavy]") {
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    LoraRig rig;
    SessionOptions whole = rig.Options("whole"), cut = rig.Options("cut");
    for (SessionOptions* options : {&whole, &cut})
      options->kernels = kernels->name, options->precision = "auto", options->adapter.targets = "q,v,down";
    cut.micro_batch_tokens = 1;
    cut.activation_bytes = 0;
    Run(whole, 2, 5);
    Run(cut, 1, 3);  // dies here: the newest checkpoint is of step 2
    INFO(kernels->name);
    CHECK(rig.Weights("whole", 3) == rig.Weights("cut", 3));
    CHECK(rig.Weights("whole", 3) != rig.Weights("whole", 2));
    cut.model.clear();  // the checkpoint knows its base
    Session session(cut, 2);
    CHECK(session.step() == 2);
    TrainMixedUntil(session, 5);
    CHECK(rig.Weights("whole", 5) == rig.Weights("cut", 5));
  }
}

TEST_CASE("the seed is the adapter's alone, and so are alpha and targets, which are refused without it") {
  LoraRig rig;
  SessionOptions off = rig.Options("off"), also_off = rig.Options("also-off"), on = rig.Options("on"), other = rig.Options("other");
  off.adapter = also_off.adapter = {};
  also_off.seed = other.seed = 7;
  for (const SessionOptions* options : {&off, &also_off, &on, &other}) Run(*options, 1, 2);
  CHECK(rig.Weights("off", 2) == rig.Weights("also-off", 2));
  CHECK(rig.Weights("on", 2) != rig.Weights("other", 2));
  CHECK(!std::filesystem::exists(off.from + "/step-00000002/adapter"));
  SessionOptions refused = rig.Options("refused");
  refused.adapter = {0, 5};
  CHECK_THROWS_WITH(Session(refused, 1), "--lora-alpha 5 without --lora: there are no factors");
  refused.adapter = {0, 32, "q"};
  CHECK_THROWS_WITH(Session(refused, 1), "--lora-targets q without --lora: there are no factors");
  CHECK(!std::filesystem::exists(refused.from));
}

TEST_CASE("a run with an adapter goes on only with its own adapter, on its own base") {
  LoraRig rig;
  const SessionOptions options = rig.Options();
  Run(options, 1, 2);
  SessionOptions other = options;
  other.adapter = {};
  CHECK_THROWS_WITH(Session(other, 1), Catch::Contains("trained with --lora 4 --lora-alpha 8") && Catch::Contains("no --lora"));
  CHECK_THAT(HintOf([&] { Session(other, 1); }), Catch::StartsWith("go on with --lora 4 --lora-alpha 8 ") &&
                                                     Catch::EndsWith("; to change it, begin a new run (another buffer, --from and --publish) with "
                                                                     "--model " +
                                                                     options.from + "/step-00000002"));
  other = options;
  other.adapter.targets = "q";
  CHECK_THROWS_WITH(Session(other, 1), Catch::Contains("--lora-targets q"));
  other = options;
  other.model = WriteTinyModel(rig.scratch / "other-model", [](const std::string& name, std::vector<float>* values) {
    if (name == "model.norm.weight") (*values)[3] = 2;
  });
  CHECK_THROWS_WITH(Session(other, 1), Catch::Contains("other-model has weights"));
  std::filesystem::rename(options.model, options.model + "-moved");
  other = options;
  other.model.clear();
  CHECK_THROWS_WITH(Session(other, 1), Catch::Contains("not at " + options.model));
  other.model = options.model + "-moved";
  Session session(other, 1);
  CHECK(session.step() == 2);
  TrainMixedUntil(session, 4);
  const Json config = Json::parse(ReadFile(SystemFiles(), options.from + "/step-00000004/adapter/adapter_config.json"));
  CHECK(config["base_model_name_or_path"] == other.model);

  SessionOptions plain = rig.Options("plain");
  plain.model = other.model;
  plain.adapter = {};
  Run(plain, 1, 2);
  plain.adapter.rank = 4;
  CHECK_THROWS_WITH(Session(plain, 1), Catch::Contains("trained with no --lora"));
}

TEST_CASE("checkpoints with an adapter are pruned whole, and one with a damaged factor is passed over") {
  LoraRig rig;
  SessionOptions options = rig.Options();
  options.keep = 2;
  Run(options, 1, 6);
  CHECK(!std::filesystem::exists(options.from + "/step-00000002"));
  const std::string factors = options.from + "/step-00000006/adapter/adapter_model.safetensors";
  std::filesystem::resize_file(factors, std::filesystem::file_size(factors) - 1);
  Session session(options, 1);
  CHECK(session.step() == 4);
}

TEST_CASE("ranks and targets that make no adapter are refused") {
  const auto config = model::Config::FromJson(TinyConfig());  // k_proj is 16 by 32
  CHECK_THROWS_WITH(MakeAdapter({17, 32, "q,k"}, config), Catch::Contains("k_proj.weight is 16 by 32"));
  CHECK(MakeAdapter({17, 32, "q,o"}, config).targets.size() == 4);
  CHECK_THROWS_WITH(MakeAdapter({4, 32, "q,x"}, config), Catch::Contains("'x' is not one of"));
  CHECK_THROWS_WITH(MakeAdapter({4, 32, "q,q"}, config), Catch::Contains("q twice"));
  CHECK_THROWS_AS(MakeAdapter({4, 32, ""}, config), Error);
  CHECK(MakeAdapter({4, 32, "down,v"}, config).Text() == "--lora 4 --lora-alpha 32 --lora-targets v,down");
  CHECK(!MakeAdapter({0, 32, "nonsense"}, config).exists());
}

TEST_CASE("first factors are spread as PEFT spreads them") {
  std::vector<float> a(16 * 400);
  DrawFactor(3, {5, 100, 400}, 16, a.data());
  double sum = 0, squares = 0, largest = 0;
  for (const float value : a) {
    const auto x = static_cast<double>(value);
    sum += x;
    squares += x * x;
    largest = std::max(largest, std::abs(x));
  }
  const double bound = 1 / std::sqrt(400.0), count = static_cast<double>(a.size());
  CHECK(largest <= bound);
  CHECK(largest > 0.99 * bound);
  CHECK(std::abs(sum / count) < 0.02 * bound);
  CHECK(squares / count == Approx(bound * bound / 3).epsilon(0.05));
}
