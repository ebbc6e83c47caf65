// AdamW, clipping and the schedule against a scalar f64 reference.
#include "grpo/adamw.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "fixtures.h"
#include "kernels/kernels.h"
#include "model/training.h"
#include "weights/convert.h"

using namespace april;
using namespace april::grpo;

namespace {

struct OptimizerRig {
  OptimizerRig()
      : kernels(kernels::ChooseKernels("auto", kernels::Precision::kF32)),
        pool(2),
        state(model::Config::FromJson(TinyConfig())),
        gradients(state.config()) {
    for (size_t p = 0; p < state.parameters().size(); ++p) {
      for (float& w : state.Master(p)) w = 0.5f;
    }
  }
  /// Every element's gradient is `value`, except the first parameter's first, which is `first`.
  void Fill(float value, float first) {
    gradients.Zero(pool);
    for (size_t p = 0; p < gradients.size(); ++p) {
      for (float& g : gradients.Tensor(p)) g = value;
    }
    gradients.Tensor(0)[0] = first;
  }

  /// As the trainer hands them over.
  std::vector<std::span<float>> Spans() {
    std::vector<std::span<float>> spans;
    for (size_t p = 0; p < gradients.size(); ++p) spans.push_back(gradients.Tensor(p));
    return spans;
  }

  const kernels::Kernels& kernels;
  kernels::ThreadPool pool;
  std::unique_ptr<ranks::Ranks> ranks = ranks::Ranks::Alone();
  State state;
  model::Gradients gradients;
};

}  // namespace

TEST_CASE("the norm is over all parameters") {
  OptimizerRig rig;
  rig.Fill(0, 3);
  rig.gradients.Tensor(3)[7] = -4;
  const Optimizer optimizer({}, rig.state, rig.kernels, rig.pool, *rig.ranks);
  CHECK(optimizer.Norm(rig.Spans()) == 5);
  rig.gradients.Tensor(5)[1] = std::nanf("");
  CHECK(std::isnan(optimizer.Norm(rig.Spans())));
}

TEST_CASE("several steps equal the formula, element by element") {
  OptimizerRig rig;
  OptimizerOptions options;
  options.lr = 1e-2;
  options.warmup_steps = 4;
  options.weight_decay = 0.1;
  options.max_grad_norm = 2;
  const Optimizer optimizer(options, rig.state, rig.kernels, rig.pool, *rig.ranks);
  double w = 0.5, m = 0, v = 0;
  for (int64_t step = 1; step <= 6; ++step) {
    const double gradient = 0.3 * static_cast<double>(step) * (step % 2 == 0 ? -1 : 1);
    rig.Fill(0, static_cast<float>(gradient));
    const double norm = optimizer.Norm(rig.Spans());
    const double lr = options.lr * std::min(1.0, static_cast<double>(step) / 4);
    CHECK(optimizer.Step(rig.Spans(), norm, &rig.state) == Approx(lr));
    const double g = gradient * std::min(1.0, 2 / std::abs(gradient));
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double mean = m / (1 - std::pow(0.9, static_cast<double>(step))), square = v / (1 - std::pow(0.999, static_cast<double>(step)));
    w = w * (1 - lr * 0.1) - lr * mean / (std::sqrt(square) + 1e-8);
    CHECK(static_cast<double>(rig.state.Master(0)[0]) == Approx(w).epsilon(1e-5));
  }
  CHECK(rig.state.optimizer_steps == 6);
  CHECK(rig.state.Master(0)[1] < 0.5f);  // decayed without a gradient
  CHECK(rig.state.Rounded(0)[0] == weights::F32ToBf16(rig.state.Master(0)[0]));
}

TEST_CASE("powers are products") {
  CHECK(Power(0.9, 0) == 1);
  CHECK(Power(0.5, 10) == 1.0 / 1024);
  CHECK(Power(0.999, 1000) == Approx(std::pow(0.999, 1000)).epsilon(1e-12));
}
