// The pool: barriers order memory, tasks are given once, regions repeat; choosing a kernel set.
#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "kernel_support.h"

namespace april::kernels::test {

TEST_CASE("barriers order memory between threads, and tasks are each given once") {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    REQUIRE(pool.num_threads() == threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::vector<int> values(static_cast<size_t>(threads)), seen(100);
      std::atomic<int> wrong{0};
      pool.Run([&](ThreadPool::Worker& worker) {
        const auto self = static_cast<size_t>(worker.index());
        for (int step = 1; step <= 10; ++step) {
          values[self] = step;
          worker.Barrier();
          for (int value : values) wrong += value != step;
          worker.Barrier();
          for (int64_t task = worker.NextTask(100); task >= 0; task = worker.NextTask(100)) ++seen[static_cast<size_t>(task)];
          worker.Barrier();
        }
      });
      REQUIRE(wrong == 0);
      REQUIRE(seen == std::vector<int>(100, 10));
    }
  }
}

TEST_CASE("a region flushes denormals on every thread, and leaves the caller's mode as it was") {
  ThreadPool pool(3);
  volatile float small = 1e-38f, factor = 0.125f;
  std::atomic<int> not_flushed{0};
  pool.Run([&](ThreadPool::Worker&) { not_flushed += small * factor != 0.0f; });
  REQUIRE(not_flushed == 0);
  REQUIRE(small * factor != 0.0f);
}

TEST_CASE("several threads may share a pool, one region at a time") {
  ThreadPool pool(2);
  std::atomic<int> inside{0}, together{0}, regions{0};
  auto use = [&] {
    for (int i = 0; i < 50; ++i) {
      pool.Run([&](ThreadPool::Worker& worker) {
        if (worker.index() == 0) {
          together += inside.fetch_add(1) != 0;
          ++regions;
        }
        worker.Barrier();
        if (worker.index() == 0) --inside;
      });
    }
  };
  std::thread other(use);
  use();
  other.join();
  REQUIRE(regions == 100);
  REQUIRE(together == 0);
}

TEST_CASE("kernel sets are chosen by name, family and precision, and an unknown one names what there is") {
  REQUIRE(std::string(ChooseKernels("portable-bf16", Precision::kAuto).name) == "portable-bf16");
  REQUIRE(std::string(ChooseKernels("portable", Precision::kF32).name) == "portable-f32");
  REQUIRE(ChooseKernels("auto", Precision::kBf16).element_bytes == 2);
  REQUIRE(ChooseKernels("auto", Precision::kF32).element_bytes == 4);
  REQUIRE_THROWS_AS(ChooseKernels("portable-bf16", Precision::kF32), Error);
  try {
    ChooseKernels("avx1024", Precision::kAuto);
    FAIL("chosen");
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kUsage);
    REQUIRE(error.hint().find("portable-bf16") != std::string::npos);
  }
  // Not in every build and on every machine: then the message says what it needs.
  std::string seen;
  try {
    seen = ChooseKernels("brgemm", Precision::kBf16).name;
  } catch (const Error& error) {
    seen = error.message();
  }
#if defined(APRIL_TORCH)
  REQUIRE((seen.starts_with("brgemm-") || seen.find("needs a processor") != std::string::npos));
#else
  REQUIRE(seen.find("needs") != std::string::npos);
#endif
}

}  // namespace april::kernels::test
