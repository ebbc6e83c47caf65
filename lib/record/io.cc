#include "record/io.h"

#include "base/error.h"

namespace april::record {

RecordReader::RecordReader(const std::string& endpoint, const stream::ReaderOptions& options)
    : reader_(stream::Reader::Open(endpoint, options)), header_(DecodeHeader(reader_->header())) {}

std::optional<Record> RecordReader::Next() {
  const auto bytes = reader_->Next();
  if (!bytes) return std::nullopt;
  ++num_records_;
  try {
    return DecodeRecord(*bytes);
  } catch (const Error& error) {
    throw error.Within(reader_->Position());
  }
}

RecordWriter::RecordWriter(const std::string& endpoint, const Header& header, const stream::WriterOptions& options)
    : writer_(stream::Writer::Open(endpoint, EncodeHeader(header), options)) {}

void RecordWriter::Write(const Record& record) { WriteEncoded(EncodeRecord(record)); }

void RecordWriter::WriteEncoded(std::string_view record_bytes) {
  writer_->Write(record_bytes);
  ++num_records_;
}

Header Signed(Header header, const Invocation& invocation) {
  if (invocation.provenance) header.provenance.push_back({invocation.tool, invocation.version, invocation.argv});
  return header;
}

void RequireGoodEnd(stream::EndStatus input) {
  if (input != stream::EndStatus::kError) return;
  throw Error::Runtime("the program that wrote the input failed; all that it wrote was kept", "look at that program's message");
}

}  // namespace april::record
