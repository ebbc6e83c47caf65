// Reads a stream on its own thread, so that what has arrived can be journaled while the next record is awaited.
#pragma once

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

  /// Everything that has arrived, at least one record; empty after a verified end. What the reader threw is thrown once all before it was taken.
  std::vector<std::string> Take();
  /// Valid after Take returned an empty list.
  stream::EndStatus end_status() const;

 private:
  struct Shared;
  static void Read(const std::shared_ptr<Shared>& shared);
  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace april::buffer
