// Requests to a hub, one msgpack map after the other.
#include "base/error.h"
#include "buffer/hub.h"
#include "fuzz_buffer.h"
#include "stream/scanner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace april;
  test::MemoryFiles files;
  test::SetClock clock;
  const auto store = test::NewBuffer(files, clock);
  buffer::Hub hub(*store, {});
  std::string_view left(reinterpret_cast<const char*>(data), size);
  constexpr int kMaxRequests = 32;
  for (int i = 0; i < kMaxRequests && !left.empty(); ++i) {
    stream::Value request;
    try {
      const auto length = stream::Scanner({}).Scan(left);
      if (!length) break;
      request = stream::Decode(left.substr(0, *length));
      left.remove_prefix(*length);
    } catch (const Error&) {
      break;
    }
    try {
      hub.Answer(request.AsMap());
    } catch (const Error&) {
    }
    clock.now_ns += 1'000'000'000;
    hub.Tick();
  }
  // Whatever was asked, what the journal holds can be read again.
  const buffer::Store again(files, clock, test::kDirectory);
  return 0;
}
