// Ranks over NCCL. The trainer's data lie in ordinary memory: they go through two buffers on the GPU, so that one is filled or emptied while the
// messages of the other one are on their way. Where NCCL would say less than Gloo it is not asked: small exchanges, and waits that may take long, are
// Gloo's, and before a large exchange all ranks meet there, where one that is lost or late is named. NCCL adds nothing up, since the order of its
// sums is not promised.
#include "ranks/nccl_ranks.h"

#if defined(APRIL_NCCL)

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "ranks/nccl_library.h"
#include "ranks/ordered_sum.h"

namespace april::ranks {
namespace {

using std::chrono::milliseconds;

constexpr size_t kStageBytes = 32u << 20;  ///< of each of the two buffers
constexpr size_t kLargeBytes = 64u << 10;  ///< below it a round trip over Gloo costs less than a meeting and two copies
constexpr size_t kAlignment = 256;         ///< of a message in a buffer, as cudaMalloc's

/// A part of a transfer that fits into a buffer. Every rank has the same list: also of what others exchange, so that all cut it at the same places.
struct Piece {
  int from = 0, to = kEveryOther;
  std::byte* data = nullptr;  ///< in ordinary memory
  size_t num_bytes = 0;
  size_t offset = 0;  ///< in the buffer
};
using Round = std::vector<Piece>;  ///< what fits into a buffer at once

class NcclRanks final : public Ranks {
 public:
  NcclRanks(const Place& place, Watch& watch, std::unique_ptr<Ranks> gloo)
      : Ranks(place.rank, place.size),
        limit_(place.patience_ms),
        silence_(place.timeout_ms),
        nccl_(NcclLibrary::Get()),
        watch_(watch),
        gloo_(std::move(gloo)) {
    try {
      Open(place);
    } catch (...) {
      Abort();
      throw;
    }
  }
  ~NcclRanks() override {
    gloo_.reset();  // first the reason, then the connections
    finished_ ? Close() : Abort();
  }

  void Move(std::span<const Transfer> transfers, Patience patience) override;
  void Add(std::span<const Reduction> reductions) override;
  void Finish() override {
    gloo_->Finish();
    finished_ = true;
  }

 private:
  struct Stage {
    std::byte* memory = nullptr;
    cudaEvent_t done = nullptr;
  };

  void Open(const Place& place);
  /// Behind Finish, when nothing is on its way.
  void Close();
  /// Behind a failure: what freeing would wait for may never end, so the rest is left to the end of the process.
  void Abort();
  void Meet();
  /// Messages of one round after the other. `arrived(i)`: what round i brings to this rank is where it belongs.
  void Run(std::span<const Round> rounds, const std::function<void(size_t)>& arrived);
  void Start(const Round& round, const Stage& stage);
  void End(const Round& round, const Stage& stage);

  /// Until `done()`; throws Peer when a rank is lost meanwhile, or when the limit is reached.
  void Wait(milliseconds limit, const std::function<bool()>& done);
  /// Whether all that was asked of NCCL is under way.
  bool Settled();
  void Check(cudaError_t error, const char* what);
  void Check(ncclResult_t error);
  [[noreturn]] void Fail(Lost lost);

  const milliseconds limit_, silence_;  ///< until a rank that lives, one that is silent, is named
  const NcclLibrary& nccl_;
  Watch& watch_;  ///< of gloo_
  std::unique_ptr<Ranks> gloo_;
  bool finished_ = false;
  int device_ = 0;  ///< as CUDA counts those that this process sees
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  Stage stages_[2];
};

void NcclRanks::Open(const Place& place) {
  int num_devices = 0;
  Check(nccl_.device_count(&num_devices), "cudaGetDeviceCount");
  device_ = place.local_rank % num_devices;
  Check(nccl_.set_device(device_), "cudaSetDevice");
  Check(nccl_.stream_create(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");  // copies, which are the default stream's, do not wait for it
  for (Stage& stage : stages_) {
    void* memory = nullptr;
    Check(nccl_.allocate(&memory, kStageBytes), "cudaMalloc");
    stage.memory = static_cast<std::byte*>(memory);
    Check(nccl_.event_create(&stage.done, cudaEventDisableTiming), "cudaEventCreate");
  }
  ncclUniqueId id{};
  if (IsFirst()) Check(nccl_.get_unique_id(&id));
  const std::string bytes = gloo_->Broadcast({id.internal, sizeof id.internal});
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // no call of NCCL's waits for another rank
  Check(nccl_.comm_init(&comm_, size(), id, rank(), &config));
  Wait(milliseconds(JoinLimitMs(place)), [this] { return Settled(); });
}

void NcclRanks::Close() {
  nccl_.comm_finalize(comm_);
  ncclResult_t state = ncclInProgress;
  for (int64_t left = silence_.count(); state == ncclInProgress && left > 0; --left) {
    if (nccl_.async_error(comm_, &state) != ncclSuccess) break;
    std::this_thread::sleep_for(milliseconds(1));
  }
  if (state != ncclSuccess) return Abort();
  nccl_.comm_destroy(comm_);
  for (const Stage& stage : stages_) {
    nccl_.event_destroy(stage.done);
    nccl_.free(stage.memory);
  }
  nccl_.stream_destroy(stream_);
}

void NcclRanks::Abort() {
  if (comm_ == nullptr) return;
  const auto ended = std::make_shared<std::promise<void>>();  // the call itself has no limit
  std::thread([abort = nccl_.comm_abort, comm = std::exchange(comm_, nullptr), ended] {
    abort(comm);
    ended->set_value();
  }).detach();
  ended->get_future().wait_for(milliseconds(5000));
}

void NcclRanks::Fail(Lost lost) {
  Error error = watch_.Report(std::move(lost));
  Abort();
  throw error;
}

void NcclRanks::Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Fail({rank(), std::string("its GPU failed: ") + what + ": " + nccl_.cuda_error_string(error)});
}

void NcclRanks::Check(ncclResult_t error) {
  if (error == ncclSuccess || error == ncclInProgress) return;
  const char* detail = nccl_.last_error(comm_);
  const std::string why = std::string("NCCL failed on it: ") + nccl_.nccl_error_string(error) +
                          (detail != nullptr && *detail != '\0' ? std::string(" (") + detail + ")" : "") +
                          (error == ncclInvalidUsage ? "; each rank needs a GPU of its own, which LOCAL_RANK or SLURM_LOCALID names" : "");
  // What another rank's end looks like from here: the watch knows which one, though it may take until that one's silence is noticed. What may be this
  // rank's own fault is told sooner than what is not.
  if (error == ncclRemoteError || error == ncclSystemError) {
    const auto until = std::chrono::steady_clock::now() + (error == ncclRemoteError ? 2 : 1) * (silence_ + milliseconds(2000));
    while (std::chrono::steady_clock::now() < until) {
      if (auto lost = watch_.lost()) Fail(std::move(*lost));
      std::this_thread::sleep_for(milliseconds(10));
    }
  }
  Fail({rank(), why});
}

bool NcclRanks::Settled() {
  ncclResult_t state = ncclSuccess;
  Check(nccl_.async_error(comm_, &state));
  Check(state);
  return state == ncclSuccess;
}

void NcclRanks::Wait(milliseconds limit, const std::function<bool()>& done) {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t turn = 0; !done(); ++turn) {
    if (auto lost = watch_.lost()) Fail(std::move(*lost));
    if (std::chrono::steady_clock::now() - begin > limit) {
      Fail({rank(), "NCCL did not end within " + HumanSeconds(static_cast<double>(limit.count()) / 1000) + "; which rank keeps it is not known"});
    }
    if (turn > 1000) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

/// Nobody passes before all are there.
void NcclRanks::Meet() {
  std::vector<char> here(static_cast<size_t>(size()));
  std::vector<Transfer> transfers;
  for (int from = 0; from < size(); ++from) transfers.push_back({from, kEveryOther, &here[static_cast<size_t>(from)], 1});
  gloo_->Move(transfers);
}

void NcclRanks::Start(const Round& round, const Stage& stage) {
  for (const Piece& piece : round) {
    if (piece.from == rank()) Check(nccl_.copy(stage.memory + piece.offset, piece.data, piece.num_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  // A copy from ordinary memory may return before it has arrived.
  Check(nccl_.event_record(stage.done, nullptr), "cudaEventRecord");
  Check(nccl_.stream_wait(stream_, stage.done, 0), "cudaStreamWaitEvent");
  ncclResult_t error = nccl_.group_start();
  for (const Piece& piece : round) {
    if (error != ncclSuccess) break;  // the group has to be ended all the same
    std::byte* data = stage.memory + piece.offset;
    if (piece.to == kEveryOther) {
      error = nccl_.broadcast(data, data, piece.num_bytes, ncclUint8, piece.from, comm_, stream_);
    } else if (piece.from == rank()) {
      error = nccl_.send(data, piece.num_bytes, ncclUint8, piece.to, comm_, stream_);
    } else if (piece.to == rank()) {
      error = nccl_.receive(data, piece.num_bytes, ncclUint8, piece.from, comm_, stream_);
    }
  }
  const ncclResult_t ended = nccl_.group_end();
  Check(error);
  Check(ended);
  Wait(limit_, [this] { return Settled(); });  // before it, nothing may have reached the stream
  Check(nccl_.event_record(stage.done, stream_), "cudaEventRecord");
}

void NcclRanks::End(const Round& round, const Stage& stage) {
  Wait(limit_, [&] {
    if (!Settled()) return false;
    const cudaError_t state = nccl_.event_query(stage.done);
    if (state == cudaErrorNotReady) return false;
    Check(state, "the exchange");
    return true;
  });
  for (const Piece& piece : round) {
    const bool comes = piece.to == rank() || (piece.to == kEveryOther && piece.from != rank());
    if (comes) Check(nccl_.copy(piece.data, stage.memory + piece.offset, piece.num_bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  }
}

void NcclRanks::Run(std::span<const Round> rounds, const std::function<void(size_t)>& arrived) {
  Meet();
  Check(nccl_.set_device(device_), "cudaSetDevice");  // of this thread
  if (!rounds.empty()) Start(rounds[0], stages_[0]);
  for (size_t i = 0; i < rounds.size(); ++i) {
    if (i + 1 < rounds.size()) Start(rounds[i + 1], stages_[(i + 1) % 2]);
    End(rounds[i], stages_[i % 2]);
    arrived(i);
  }
}

/// Room for so many bytes: where it begins. A round that has no such room is followed by another one.
size_t Allot(size_t num_bytes, std::vector<Round>* rounds, size_t* used) {
  if (rounds->empty() || *used + num_bytes > kStageBytes) {
    rounds->emplace_back();
    *used = 0;
  }
  return std::exchange(*used, (*used + num_bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void NcclRanks::Move(std::span<const Transfer> transfers, Patience patience) {
  size_t total = 0, used = 0;
  for (const Transfer& transfer : transfers) total += transfer.num_bytes;
  if (patience == Patience::kWhileAlive || total < kLargeBytes) return gloo_->Move(transfers, patience);
  std::vector<Round> rounds;
  for (const Transfer& transfer : transfers) {
    if (transfer.from == transfer.to) continue;
    auto* data = static_cast<std::byte*>(transfer.data);  // the ranks between may have none
    for (size_t begin = 0; begin < transfer.num_bytes; begin += kStageBytes) {
      const size_t num_bytes = std::min(kStageBytes, transfer.num_bytes - begin), offset = Allot(num_bytes, &rounds, &used);
      rounds.back().push_back({transfer.from, transfer.to, data == nullptr ? nullptr : data + begin, num_bytes, offset});
    }
  }
  Run(rounds, [](size_t) {});
}

void NcclRanks::Add(std::span<const Reduction> reductions) {
  size_t total = 0, used = 0;
  for (const Reduction& reduction : reductions) total += reduction.values.size_bytes();
  if (total < kLargeBytes) return gloo_->Add(reductions);

  struct Sum {
    size_t round;
    std::span<float> values;
    std::vector<const float*> arrays;  ///< by rank, in `others`
  };
  const size_t num_others = static_cast<size_t>(size()) - 1, self = static_cast<size_t>(rank());
  const size_t most = kStageBytes / num_others / kAlignment * kAlignment / sizeof(float);  // each other rank's part, beside one another
  const bool owns = std::any_of(reductions.begin(), reductions.end(), [&](const Reduction& reduction) { return reduction.owner == rank(); });
  std::vector<std::byte> others(owns ? kStageBytes : 0);
  std::vector<Round> rounds;
  std::vector<Sum> sums;  // this rank's, in the order of rounds
  for (const Reduction& reduction : reductions) {
    for (size_t begin = 0; begin < reduction.values.size(); begin += most) {
      const std::span<float> values = reduction.values.subspan(begin, std::min(most, reduction.values.size() - begin));
      const size_t stride = (values.size_bytes() + kAlignment - 1) / kAlignment * kAlignment;
      size_t offset = Allot(stride * num_others, &rounds, &used);
      const bool is_own = reduction.owner == rank();
      if (is_own) sums.push_back({rounds.size() - 1, values, {}});
      for (int from = 0; from < size(); ++from) {
        auto* data = is_own ? others.data() + offset : reinterpret_cast<std::byte*>(values.data());
        if (is_own) sums.back().arrays.push_back(reinterpret_cast<const float*>(data));
        if (from == reduction.owner) continue;
        rounds.back().push_back({from, reduction.owner, data, values.size_bytes(), offset});
        offset += stride;
      }
    }
  }
  auto next = sums.begin();
  Run(rounds, [&](size_t round) {
    for (; next != sums.end() && next->round == round; ++next) AddInOrder(self, next->arrays, next->values);
  });
}

}  // namespace

std::string FindNccl() {
  const NcclLibrary& nccl = NcclLibrary::Get();
  int num_devices = 0, version = 0;
  if (const cudaError_t error = nccl.device_count(&num_devices); error != cudaSuccess || num_devices == 0) {
    throw Error::Usage(std::string("--rank-backend nccl: there is no GPU for this process: ") +
                           (error == cudaSuccess ? "none is visible" : nccl.cuda_error_string(error)),
                       "leave the option out: ranks then use Gloo");
  }
  nccl.get_version(&version);
  return "nccl " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

std::unique_ptr<Ranks> ConnectNccl(const Place& place, Watch& watch, std::unique_ptr<Ranks> gloo) {
  return std::make_unique<NcclRanks>(place, watch, std::move(gloo));
}

}  // namespace april::ranks

#else

namespace april::ranks {

std::string FindNccl() {
  throw Error::Usage("--rank-backend nccl: this program is built without NCCL",
                     "cmake looks for nccl.h and cuda_runtime_api.h in CUDA's folder and in those of -DCMAKE_PREFIX_PATH; or leave the option out");
}

std::unique_ptr<Ranks> ConnectNccl(const Place&, Watch&, std::unique_ptr<Ranks>) { throw Error::Usage(FindNccl()); }

}  // namespace april::ranks

#endif  // APRIL_NCCL
