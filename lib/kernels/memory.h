// Zeroed, page-aligned memory for packed weights, keys and values, and activations.
#pragma once

#include <cstddef>

namespace april::kernels {

/// A zeroed block, aligned to at least 64 bytes; those of 4 MiB and more ask for huge pages. Moves, does not copy.
///   Cost  streaming weights runs at 30 GB/s from huge pages where small ones give 22: put a model's packed matrices into one block.
class Memory {
 public:
  Memory() = default;
  /// Throws Runtime naming the size when there is not so much.
  explicit Memory(size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return data_; }
  size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace april::kernels
