// Streams of typed records.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/invocation.h"
#include "record/records.h"
#include "stream/endpoint.h"
#include "stream/reader.h"
#include "stream/writer.h"

namespace april::record {

class RecordReader {
 public:
  RecordReader(const std::string& endpoint, const stream::ReaderOptions& options);
  const Header& header() const { return header_; }
  /// nullopt only after a verified end record. Throws Data on truncation or damage, Peer when a peer vanished.
  std::optional<Record> Next();
  stream::EndStatus end_status() const { return reader_->end_status(); }  ///< valid after Next returned nullopt
  uint64_t num_records() const { return num_records_; }
  stream::Reader& raw() { return *reader_; }

 private:
  std::unique_ptr<stream::Reader> reader_;
  Header header_;
  uint64_t num_records_ = 0;
};

class RecordWriter {
 public:
  RecordWriter(const std::string& endpoint, const Header& header, const stream::WriterOptions& options);
  void Write(const Record& record);
  void WriteEncoded(std::string_view record_bytes);
  /// Pushes what is buffered to the reader.
  void Flush() { writer_->Flush(); }
  /// Writes the end record. A writer destroyed without it leaves a stream that every reader calls truncated.
  void Finish(stream::EndStatus status = stream::EndStatus::kOk) { writer_->Finish(status); }
  uint64_t num_records() const { return num_records_; }

 private:
  std::unique_ptr<stream::Writer> writer_;
  uint64_t num_records_ = 0;
};

/// The header with an entry for this program, unless it shall leave none.
Header Signed(Header header, const Invocation& invocation);

/// What a program does last, once it has kept or passed on all that it read and has ended its own stream with the same status.
/// Throws Runtime when the input ended with status `error` (formats/stream.md, reader rules).
void RequireGoodEnd(stream::EndStatus input);

}  // namespace april::record
