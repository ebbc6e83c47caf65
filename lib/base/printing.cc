#include "base/printing.h"

#include <cerrno>
#include <cstdio>

namespace april {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

[[noreturn]] void Fail(int error_number) {
  std::clearerr(stdout);  // told now
  if (error_number == EPIPE) throw ReaderGone();
  throw Error::System("cannot write", "standard output", error_number != 0 ? error_number : EIO);
}

}  // namespace

ReaderGone::ReaderGone() : Error(ErrorKind::kPeer, "standard output was closed by its reader") {}

void PrintOut(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) Fail(errno);
}

void FlushOut() {
  const bool failed_before = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) != 0) Fail(errno);
  if (failed_before) Fail(EIO);
}

std::string Printable(std::string_view text) {
  std::string printable;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_c0 = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    const bool is_c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;  // U+0080 to U+009F: two bytes
    if (is_c0 || is_c1) {
      printable += kReplacement;
      i += is_c1;
    } else {
      printable += text[i];
    }
  }
  return printable;
}

}  // namespace april
