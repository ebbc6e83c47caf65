// A buffer whose manifest is the bytes, its digest set right.
#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "fuzz_buffer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace april;
  test::MemoryFiles files;
  const test::SetClock clock;
  test::NewBuffer(files, clock);
  std::string text(reinterpret_cast<const char*>(data), size);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) {
    json.erase("digest");
    json["digest"] = HexU64(Digest(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
    text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  ReplaceFile(files, JoinPath(test::kDirectory, "manifest.json"), text, false);
  try {
    buffer::Store store(files, clock, test::kDirectory);
    test::Take(store, 1, 1);
  } catch (const Error&) {
  }
  return 0;
}
