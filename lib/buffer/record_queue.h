// Reads a stream on its own thread, so that what has arrived can be journaled while the next record is awaited.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "record/io.h"

namespace april::buffer {

class RecordQueue {
 public:
  explicit RecordQueue(std::unique_ptr<record::RecordReader> reader);
  /// Does not wait for input that may never come: a thread that is still reading is left behind, for a process that is about to end.
  ~RecordQueue();
  RecordQueue(const RecordQueue&) = delete;
  RecordQueue& operator=(const RecordQueue&) = delete;

  /// Everything that has arrived: waits for one record, but not longer than the timeout. False after a verified end. What the reader threw is thrown
  /// once all before it was taken.
  bool Take(int64_t timeout_ms, std::vector<std::string>* records);
  /// Valid after Take returned false.
  stream::EndStatus end_status() const;

 private:
  struct Shared;
  static void Read(const std::shared_ptr<Shared>& shared);
  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace april::buffer
