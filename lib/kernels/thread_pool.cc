#include "kernels/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/log.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace april::kernels {
namespace {

// A decode step's phases last tens of microseconds: spin about that long, then give the core to whoever else needs it.
constexpr int kSpins = 2000;
// Who is waited for may be waiting for this very core, when others use the machine, too: a yield gives it to them, and costs little when nobody is
// there.
constexpr int kSpinsPerYield = 100;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// A number that threads wait on to change: spin, then futex.
class Gate {
 public:
  uint32_t Value() const { return value_.load(std::memory_order_acquire); }

  void Open() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) != 0) {
      syscall(SYS_futex, reinterpret_cast<uint32_t*>(&value_), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    }
  }

  void WaitWhile(uint32_t seen) {
    for (int i = 1; i <= kSpins; ++i) {
      if (Value() != seen) return;
      if (i % kSpinsPerYield == 0) {
        sched_yield();
      } else {
        Pause();
      }
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == seen) {
      syscall(SYS_futex, reinterpret_cast<uint32_t*>(&value_), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
    }
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  alignas(64) std::atomic<uint32_t> value_{0};
  std::atomic<uint32_t> sleepers_{0};
};

int UsableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace

struct ThreadPool::State {
  explicit State(int count) : num_threads(count) {}

  class RegionWorker final : public Worker {
   public:
    RegionWorker(State* state, int index) : state_(state), index_(index) {}
    int index() const override { return index_; }
    int num_threads() const override { return state_->num_threads; }
    void Barrier() override { state_->Barrier(); }
    int64_t NextTask(int64_t count) override {
      int64_t task = state_->next_task.fetch_add(1, std::memory_order_relaxed);
      return task < count ? task : -1;
    }

   private:
    State* state_;
    int index_;
  };

  void Barrier() {
    if (num_threads == 1) {
      next_task.store(0, std::memory_order_relaxed);
      return;
    }
    uint32_t seen = passed.Value();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads) {
      arrived.store(0, std::memory_order_relaxed);
      next_task.store(0, std::memory_order_relaxed);
      passed.Open();
    } else {
      passed.WaitWhile(seen);
    }
  }

  void RunRegion(int index) noexcept {
    FlushDenormals flush;
    RegionWorker worker(this, index);
    try {
      (*region)(worker);
    } catch (const Error& error) {
      log::Failure(error.message(), error.hint());
      std::_Exit(static_cast<int>(error.kind()));
    } catch (const std::exception& error) {
      log::Failure(error.what(), "");
      std::_Exit(static_cast<int>(ErrorKind::kRuntime));
    }
    Barrier();
  }

  void ThreadMain(int index, uint32_t seen) {
    for (;;) {
      started.WaitWhile(seen);
      seen = started.Value();
      if (stopping) return;
      RunRegion(index);
    }
  }

  const int num_threads;
  std::mutex one_region;
  const std::function<void(Worker&)>* region = nullptr;
  bool stopping = false;
  Gate started;
  Gate passed;
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<int64_t> next_task{0};
  std::vector<std::thread> threads;
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>(num_threads > 0 ? num_threads : UsableCpus())) {
  uint32_t seen = state_->started.Value();
  for (int i = 1; i < state_->num_threads; ++i) {
    state_->threads.emplace_back([state = state_.get(), i, seen] { state->ThreadMain(i, seen); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping = true;
  state_->started.Open();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::num_threads() const { return state_->num_threads; }

void ThreadPool::Run(const std::function<void(Worker&)>& region) {
  std::lock_guard lock(state_->one_region);
  state_->region = &region;
  state_->next_task.store(0, std::memory_order_relaxed);
  if (state_->num_threads > 1) state_->started.Open();
  state_->RunRegion(0);
}

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(static_cast<unsigned>(saved_) | 0x8040U); }
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#endif

}  // namespace april::kernels
