// A small pool of our own: one parallel region per forward pass, barriers that spin briefly and then sleep.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace april::kernels {

class ThreadPool {
 public:
  /// `num_threads` includes the calling thread; 0 means the CPUs that this process may use.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  /// Handle of one thread inside a region.
  class Worker {
   public:
    virtual int index() const = 0;
    virtual int num_threads() const = 0;
    /// Returns once all threads of the region arrived; orders memory between them.
    virtual void Barrier() = 0;
    /// The next task of [0, count) from a counter shared by the region; -1 when none is left. The counter starts again after a Barrier.
    virtual int64_t NextTask(int64_t count) = 0;

   protected:
    ~Worker() = default;
  };

  /// Runs `region` on every thread at once, flush-to-zero on; returns when all have. One region at a time: regions do not nest, and another thread's
  /// Run waits. An exception thrown in a region ends the process with its message (no thread may skip a barrier).
  void Run(const std::function<void(Worker&)>& region);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// While it lives, this thread counts denormal numbers as zero, as inside a region: kernels called outside ThreadPool::Run need it to give the same
/// bits.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace april::kernels
