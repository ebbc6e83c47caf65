#include "stream/open.h"

#include "base/error.h"
#include "stream/byte_io.h"

namespace april::stream {

std::unique_ptr<Reader> Reader::Open(const std::string& endpoint, const ReaderOptions& options) {
  const Endpoint parsed = Endpoint::Parse(endpoint);
  if (parsed.kind == Endpoint::Kind::kZmq) return OpenZmqReader(parsed, options);
  if (options.sources != 1) throw Error::Usage("--sources needs a zmq endpoint, not " + endpoint);
  return OpenByteReader(parsed, options);
}

std::unique_ptr<Writer> Writer::Open(const std::string& endpoint, std::string_view header, const WriterOptions& options) {
  const Endpoint parsed = Endpoint::Parse(endpoint);
  return parsed.kind == Endpoint::Kind::kZmq ? OpenZmqWriter(parsed, header, options) : OpenByteWriter(parsed, header, options);
}

void Writer::RequireOpens(const std::string& endpoint) {
  const Endpoint parsed = Endpoint::Parse(endpoint);
  if (parsed.kind != Endpoint::Kind::kZmq) RequireSink(parsed.address);
}

}  // namespace april::stream
