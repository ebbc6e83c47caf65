#include "buffer/record_queue.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <mutex>

namespace april::buffer {
namespace {

constexpr size_t kMaxQueuedBytes = 16u << 20;  // then the stream's writer has to wait

}  // namespace

struct RecordQueue::Shared {
  std::unique_ptr<record::RecordReader> reader;  ///< called by the thread alone until `ended`
  std::mutex mutex;
  std::condition_variable arrived, taken;
  std::vector<std::string> records;
  size_t bytes = 0;
  bool ended = false, abandoned = false;
  std::exception_ptr failure;
};

RecordQueue::RecordQueue(std::unique_ptr<record::RecordReader> reader) : shared_(std::make_shared<Shared>()) {
  shared_->reader = std::move(reader);
  thread_ = std::thread([shared = shared_] { Read(shared); });
}

RecordQueue::~RecordQueue() {
  std::unique_lock lock(shared_->mutex);
  shared_->abandoned = true;
  shared_->taken.notify_all();
  const bool ended = shared_->ended;
  lock.unlock();
  if (ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void RecordQueue::Read(const std::shared_ptr<Shared>& shared) {
  std::exception_ptr failure;
  try {
    while (const auto record = shared->reader->raw().Next()) {
      std::unique_lock lock(shared->mutex);
      shared->taken.wait(lock, [&] { return shared->bytes < kMaxQueuedBytes || shared->abandoned; });
      if (shared->abandoned) return;
      shared->records.emplace_back(*record);
      shared->bytes += record->size();
      shared->arrived.notify_all();
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(shared->mutex);
  shared->failure = failure;
  shared->ended = true;
  shared->arrived.notify_all();
}

bool RecordQueue::Take(int64_t timeout_ms, std::vector<std::string>* records) {
  std::unique_lock lock(shared_->mutex);
  shared_->arrived.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return !shared_->records.empty() || shared_->ended; });
  *records = std::move(shared_->records);
  shared_->records.clear();
  shared_->bytes = 0;
  shared_->taken.notify_all();
  if (!records->empty() || !shared_->ended) return true;
  if (shared_->failure) std::rethrow_exception(shared_->failure);
  return false;
}

stream::EndStatus RecordQueue::end_status() const { return shared_->reader->end_status(); }

}  // namespace april::buffer
