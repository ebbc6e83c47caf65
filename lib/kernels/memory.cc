#include "kernels/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"

namespace april::kernels {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t MappedBytes(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

Memory::Memory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  // Over-long by one huge page, so that the block can start on one; untouched pages cost nothing.
  size_t mapped = MappedBytes(bytes);
  size_t whole = mapped >= kHugePage * 2 ? mapped + kHugePage : mapped;
  void* base = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    throw Error::System("cannot get memory", std::to_string(bytes) + " bytes", errno);
  }
  char* begin = static_cast<char*>(base);
  if (whole != mapped) {
    auto address = reinterpret_cast<uintptr_t>(begin);
    size_t skip = (kHugePage - address % kHugePage) % kHugePage;
    if (skip != 0) munmap(begin, skip);
    if (skip != kHugePage) munmap(begin + skip + mapped, kHugePage - skip);
    begin += skip;
    madvise(begin, mapped, MADV_HUGEPAGE);
  }
  data_ = begin;
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, MappedBytes(size_));
}

Memory::Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace april::kernels
