#include "ranks/ranks.h"

#include <utility>

#include "ranks/gloo_ranks.h"
#include "ranks/nccl_ranks.h"
#include "ranks/watch.h"

namespace april::ranks {
namespace {

class AloneRanks final : public Ranks {
 public:
  AloneRanks() : Ranks(0, 1) {}
  void Move(std::span<const Transfer>, Patience) override {}
  void Add(std::span<const Reduction>) override {}
  void Finish() override {}
};

}  // namespace

std::unique_ptr<Ranks> Ranks::Alone() { return std::make_unique<AloneRanks>(); }

std::unique_ptr<Ranks> Ranks::Join(const Place& place, Work work) {
  if (place.size == 1) return Alone();
  const bool nccl = place.backend == Backend::kNccl;
  work["--rank-backend"] = nccl ? FindNccl() : "gloo";
  auto watch = Watch::Start(place, std::move(work));
  Watch& watching = *watch;
  auto gloo = ConnectGloo(place, std::move(watch));
  return nccl ? ConnectNccl(place, watching, std::move(gloo)) : std::move(gloo);
}

std::string Ranks::Broadcast(std::string bytes, Patience patience) {
  uint64_t num_bytes = bytes.size();
  const Transfer size{0, kEveryOther, &num_bytes, sizeof num_bytes};
  Move({&size, 1}, patience);
  bytes.resize(num_bytes);
  const Transfer contents{0, kEveryOther, bytes.data(), num_bytes};
  Move({&contents, 1});
  return bytes;
}

}  // namespace april::ranks
