#include "base/error.h"
#include "stream/open.h"

namespace april::stream {

std::unique_ptr<Reader> OpenZmqReader(const Endpoint& endpoint, const ReaderOptions&) {
  throw Error::Runtime("no socket streams in this build: " + endpoint.address);
}
std::unique_ptr<Writer> OpenZmqWriter(const Endpoint& endpoint, std::string_view, const WriterOptions&) {
  throw Error::Runtime("no socket streams in this build: " + endpoint.address);
}

}  // namespace april::stream
