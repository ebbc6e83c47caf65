#include "grpo/session_options.h"

namespace april::grpo {
namespace {

kernels::Precision ParsePrecision(const std::string& name) {
  return name == "bf16" ? kernels::Precision::kBf16 : name == "f32" ? kernels::Precision::kF32 : kernels::Precision::kAuto;
}

}  // namespace

void SessionOptions::Register(OptionsVisitor& options) {
  options.Section("Weights");
  options.Text("from", &from, "DIR", "checkpoints: goes on from the newest whole one, and writes new ones there");
  options.Text("model", &model, "PATH",
               "where to start when there is no checkpoint: a Hugging Face directory or a .gguf file; also the reference policy of --kl");
  options.Text("publish", &publish, "DIR", "version store: the weights of every step, in bf16, for generators");
  options.Integer("keep-versions", &keep_versions, 2, kNoUpperLimit, "published versions to keep");
  options.Integer("checkpoint-every", &checkpoint_every, 1, kNoUpperLimit, "steps between full checkpoints; one is written at the end, too");
  options.Integer("keep", &keep, 1, kNoUpperLimit, "whole checkpoints to keep");
  options.Integer(
      "replay", &replay, -1, kNoUpperLimit,
      "compute this recorded step again, from the newest checkpoint at or before it and the claims of `partial-buffer claim --replay`, compare "
      "every bit with what is recorded, and change nothing; -1 = off");
  method.Register(options);
  optimizer.Register(options);
  adapter.Register(options);
  options.Section("Machine");
  options.Integer("micro-batch-tokens", &micro_batch_tokens, 1, kNoUpperLimit,
                  "tokens that go through the network at once, in whole groups; changes memory, never the result");
  options.Bytes("activation-memory", &activation_bytes,
                "what the backward pass may keep of the forward pass; the rest is computed again, to the same bits");
  options.Text("kernels", &kernels, "NAME", "kernel set; must be the generator's for on-policy ratios of exactly 1");
  options.Choice("precision", &precision, {"auto", "bf16", "f32"}, "of the products: auto = bf16 where the machine multiplies it by itself");
  options.Real("matrix-peak", &matrix_peak, 0, 1e9,
               "what this machine can do at most, in 10^9 operations of bf16 matrix products a second, for the metrics' peak_share; 0 = measured at "
               "start");
}

Method CheckedMethod(const SessionOptions& options) {
  const Method method = ParseMethod(options.method);
  ParseSchedule(options.optimizer);
  RequireLora(options.adapter);
  return method;
}

const kernels::Kernels& KernelsOf(const SessionOptions& options) {
  return kernels::ChooseKernels(options.kernels, ParsePrecision(options.precision));
}

}  // namespace april::grpo
