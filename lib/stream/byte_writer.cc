// The Writer of pipes and files. A ticking thread keeps marks coming and buffered bytes moving while the program is busy elsewhere.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "stream/byte_io.h"
#include "stream/framing.h"
#include "stream/open.h"

namespace april::stream {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBufferBytes = 256 << 10;
constexpr int64_t kTickMs = 1000;  // buffered bytes are never older than this

class ByteWriter final : public Writer {
 public:
  ByteWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options)
      : options_(options), is_file_(endpoint.kind == Endpoint::Kind::kFile), sink_(OpenSink(endpoint.address, options.compress)), framer_(header) {
    buffer_.append(header);
    Drain();  // the reader waits for the header, whatever the first record will take
    ticker_ = std::thread([this] { Tick(); });
  }

  ~ByteWriter() override { StopTicker(); }
  ByteWriter(const ByteWriter&) = delete;
  ByteWriter& operator=(const ByteWriter&) = delete;

  void Write(std::string_view record) override {
    const std::lock_guard lock(mutex_);
    CheckUsable();
    framer_.Add(record);
    buffer_.append(record);
    bytes_since_mark_ += record.size();
    if (bytes_since_mark_ >= options_.mark_bytes) Mark();
    if (buffer_.size() >= kBufferBytes) Drain();
  }

  void Flush() override {
    const std::lock_guard lock(mutex_);
    CheckUsable();
    Drain();
  }

  void Finish(EndStatus status) override {
    {
      const std::lock_guard lock(mutex_);
      CheckUsable();
      finished_ = true;
      buffer_.append(framer_.End(status));
      Drain();
      sink_->Finish();
    }
    StopTicker();
  }

 private:
  void CheckUsable() {
    if (failure_) std::rethrow_exception(failure_);
    if (finished_) throw Error::Runtime("a record is written after the end of its stream");
  }

  void Mark() {
    buffer_.append(framer_.Mark());
    bytes_since_mark_ = 0;
    last_mark_ = Clock::now();
  }

  void Drain() {
    try {
      sink_->Write(buffer_);
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
    buffer_.clear();
  }

  void Tick() {
    std::unique_lock lock(mutex_);
    const auto interval = std::chrono::milliseconds(std::max<int64_t>(1, std::min(kTickMs, options_.mark_interval_ms)));
    while (!wake_.wait_for(lock, interval, [this] { return stopping_; })) {
      if (failure_ || finished_) return;
      if (Clock::now() - last_mark_ >= std::chrono::milliseconds(options_.mark_interval_ms)) Mark();
      try {
        buffer_.erase(0, sink_->WriteSome(buffer_));  // must not wait: the lock is held, and a slow reader is no reason to stop the program
        if (is_file_) sink_->Flush();
      } catch (...) {
        failure_ = std::current_exception();
      }
    }
  }

  void StopTicker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (ticker_.joinable()) ticker_.join();
  }

  const WriterOptions options_;
  const bool is_file_;
  std::mutex mutex_;  ///< guards everything below
  std::condition_variable wake_;
  std::unique_ptr<ByteSink> sink_;
  Framer framer_;
  std::string buffer_;
  uint64_t bytes_since_mark_ = 0;
  Clock::time_point last_mark_ = Clock::now();
  std::exception_ptr failure_;
  bool finished_ = false, stopping_ = false;
  std::thread ticker_;
};

}  // namespace

std::unique_ptr<Writer> OpenByteWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options) {
  return std::make_unique<ByteWriter>(endpoint, header, options);
}

}  // namespace april::stream
