#include "grpo/follower.h"

#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "grpo/memory_need.h"
#include "grpo/orders.h"
#include "grpo/sharding.h"
#include "model/kernel_proof.h"

namespace april::grpo {
namespace {

/// Every option's value as a text.
class OptionTexts final : public OptionsVisitor {
 public:
  void Section(const char*) override {}
  void Flag(const char* name, bool* value, const char*) override { Add(name, *value ? "on" : "off"); }
  void Text(const char* name, std::string* value, const char*, const char*) override { Add(name, "'" + *value + "'"); }
  void Choice(const char* name, std::string* value, std::vector<std::string>, const char*) override { Add(name, *value); }
  void Integer(const char* name, int64_t* value, int64_t, int64_t, const char*) override { Add(name, std::to_string(*value)); }
  void Real(const char* name, double* value, double, double, const char*) override { Add(name, Json(*value).dump()); }
  void Bytes(const char* name, uint64_t* value, const char*) override { Add(name, std::to_string(*value) + " bytes"); }
  void Texts(const char* name, std::vector<std::string>* values, const char*, const char*) override { Add(name, Json(*values).dump()); }
  void Argument(const char* name, std::string* value, bool, const char*) override { Add(name, *value); }
  void Arguments(const char* name, std::vector<std::string>* values, bool, const char*) override { Add(name, Json(*values).dump()); }

  ranks::Work texts;

 private:
  void Add(const char* name, const std::string& value) { texts[std::string("--") + name] = value; }
};

}  // namespace

ranks::Work WorkOf(const SessionOptions& options) {
  OptionTexts visitor;
  SessionOptions copy = options;
  copy.Register(visitor);
  ranks::Work work = std::move(visitor.texts);
  for (const char* own : {"--activation-memory", "--matrix-peak"}) work.erase(own);  // of the machine; no bit depends on them
  work["the program"] = std::string(APRIL_VERSION) + ", digest " + HexU64(Digest(MappedFile("/proc/self/exe").bytes()));
  work["the kernel set"] = KernelsOf(options).name;
  return work;
}

std::shared_ptr<ranks::Ranks> JoinRanks(const ranks::RankOptions& options, const SessionOptions& session) {
  const ranks::Place place = ranks::FindPlace(options, ranks::ProcessEnvironment());
  if (place.size == 1) return ranks::Ranks::Alone();
  const std::string name = "rank " + std::to_string(place.rank) + " of " + std::to_string(place.size);
  log::Info(name + "; rank 0 is at " + place.host + ":" + std::to_string(place.port));
  return ranks::Ranks::Join(place, WorkOf(session));
}

struct Follower::Parts {
  Parts(const SessionOptions& options, int num_threads, ranks::Ranks& all_ranks)
      : ranks(all_ranks), method(CheckedMethod(options)), kernels(KernelsOf(options)), pool(num_threads) {}

  ranks::Ranks& ranks;
  Method method;
  const kernels::Kernels& kernels;
  kernels::ThreadPool pool;
  std::unique_ptr<State> state;
  std::unique_ptr<Trainer> trainer;
  bool stopped = false;
  int64_t num_steps = 0;
};

Follower::Follower(const SessionOptions& options, int num_threads, ranks::Ranks& ranks)
    : parts_(std::make_unique<Parts>(options, num_threads, ranks)) {
  Parts& parts = *parts_;
  const Json start = Share(ranks, {});
  const auto config = model::Config::FromJson(start.at("config"));
  model::ProveKernels(config, parts.kernels, parts.pool, model::ProofDirectory());
  const Adapter adapter = MakeAdapter(options.adapter, config);
  RequireMemoryToTrain(config, adapter, parts.method, parts.kernels, ranks);
  parts.state = std::make_unique<State>(config, adapter, ranks);
  if (adapter.exists()) {
    parts.state->ShareBase(ranks);
  } else if (start.at("checkpoint")) {
    ReceiveOptimizer(parts.state.get(), parts.pool, ranks);
  } else {
    LoadModel(nullptr, parts.state.get(), options.seed, parts.pool, ranks);
  }
  parts.state->RoundAndShare(ranks, parts.pool, /*is_rounded=*/!adapter.exists());
  const Json counters = Share(ranks, {});
  parts.state->step = counters.at("step");
  parts.state->version = counters.at("version");
  parts.state->optimizer_steps = counters.at("optimizer_steps");
  std::shared_ptr<const model::Policy> reference;
  if (parts.method.UsesReference()) reference = LoadReference(nullptr, parts.state->config(), parts.kernels, parts.pool, ranks);
  parts.trainer = std::make_unique<Trainer>(TrainerOptions{parts.method, options.optimizer, options.micro_batch_tokens, options.activation_bytes, 0},
                                            parts.kernels, parts.pool, parts.state.get(), std::move(reference), ranks);
}
Follower::~Follower() = default;

bool Follower::Next() {
  Parts& parts = *parts_;
  State& state = *parts.state;
  const Order order = TakeOrder(parts.ranks);
  if (order.kind == Order::Kind::kCheckpoint) SendOptimizer(state, parts.ranks);
  if (order.kind == Order::Kind::kTrain) {
    const Batch batch =
        MakeBatch(*order.claim, parts.method, {state.config().vocab, state.config().max_positions, state.version, order.weights, parts.kernels.name});
    if (parts.trainer->Update(batch).failure) return true;  // rank 0 says so, and ends
    ++state.step;
    ++state.version;
    ++parts.num_steps;
    parts.trainer->Prepare();
  }
  if (order.kind != Order::Kind::kEnd) return true;
  parts.stopped = order.stopped;
  parts.ranks.Finish();
  return false;
}

bool Follower::stopped() const { return parts_->stopped; }

std::string Follower::Text() const {
  return std::to_string(parts_->num_steps) + " steps as rank " + std::to_string(parts_->ranks.rank()) + " of " + std::to_string(parts_->ranks.size());
}

}  // namespace april::grpo
