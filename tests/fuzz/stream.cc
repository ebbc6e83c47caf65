// A file that is read as a stream of records.
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "record/io.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace april;
  log::Configure("fuzz", log::Level::kQuiet);
  const int fd = ::memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    record::RecordReader reader("/proc/self/fd/" + std::to_string(fd), {});
    while (reader.Next()) {
    }
  } catch (const Error&) {
  }
  ::close(fd);
  return 0;
}
