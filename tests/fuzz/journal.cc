// A buffer whose only segment is the bytes; or, when the first byte is not 0, the entries of its only frame, so that digests do not hide what is
// behind them.
#include "base/error.h"
#include "buffer/compaction.h"
#include "buffer/frame.h"
#include "fuzz_buffer.h"

namespace {

using namespace april;

void ReadAll(FileSystem& files, const Clock& clock) {
  buffer::Store store(files, clock, test::kDirectory);
  for (const auto& [admission, group] : store.state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      try {
        store.ReadRollout(buffer::MakeKey(admission, i));
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::MemoryFiles files;
  const test::SetClock clock;
  test::NewBuffer(files, clock);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  const bool entries = !bytes.empty() && bytes[0] != 0;
  if (!bytes.empty()) bytes.erase(0, 1);
  if (entries) {
    buffer::FrameHeader header;
    header.sequence = header.writer_epoch = 1;
    header.segment = header.num_entries = 1;
    bytes = buffer::EncodeFrame(header, bytes);
  }
  files.Create(JoinPath(test::kDirectory, "journal/00000001.zst"))->Append(bytes);
  try {
    ReadAll(files, clock);
    buffer::Compact(files, clock, test::kDirectory);
    ReadAll(files, clock);
  } catch (const Error&) {
  }
  return 0;
}
