#include "stream/byte_io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "stream/zstd_io.h"

namespace april::stream {
namespace {

constexpr int kSilenceWarningMs = 60'000;
constexpr int kEndPatienceMs = 1000;
constexpr int kPipeBytes = 1 << 20;

/// A descriptor that is closed with the object unless it is stdin or stdout.
class Descriptor {
 public:
  Descriptor(int fd, std::string name) : fd_(fd), name_(std::move(name)) {
#ifdef F_SETPIPE_SZ
    ::fcntl(fd_, F_SETPIPE_SZ, kPipeBytes);  // fewer switches between the stages; fails harmlessly on what is no pipe
#endif
  }
  ~Descriptor() {
    if (fd_ > 2) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int fd() const { return fd_; }
  const std::string& name() const { return name_; }

  /// Whether it became ready (or failed, which the next read or write will tell) within the time; waits on through signals.
  bool Wait(short events, int timeout_ms) const {
    pollfd item = {fd_, events, 0};
    int ready = 0;
    do {
      ready = ::poll(&item, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    return ready != 0;
  }
  bool IsRegular() const {
    struct stat info;
    return ::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode);
  }
  void Close() {
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) throw Error::System("cannot close", name_, errno);
  }

 private:
  int fd_;
  std::string name_;
};

Error ReaderGone(const std::string& name) {
  return Error::Peer(name + " was closed by its reader before the stream's end", "look at the message of the program behind this one");
}

class FdSource final : public ByteSource {
 public:
  FdSource(int fd, bool for_stdout, std::string name) : for_stdout_(for_stdout), file_(fd, std::move(name)) {}

  size_t Read(char* out, size_t size) override {
    for (;;) {
      if (!Await()) {
        log::WarnOnce("silent " + file_.name(),
                      "nothing has come from " + file_.name() +
                          " for 60 s, not even a mark: the program in front may hang (or is still loading its model); waiting on");
        continue;
      }
      const ssize_t got = ::read(file_.fd(), out, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR && errno != EAGAIN) throw Error::System("cannot read", file_.name(), errno);
    }
  }

  bool AtEnd() override {
    char byte;
    while (file_.Wait(POLLIN, kEndPatienceMs)) {
      const ssize_t got = ::read(file_.fd(), &byte, 1);
      if (got >= 0) return got == 0;
      if (errno != EINTR && errno != EAGAIN) return true;
    }
    return true;
  }

 private:
  /// Whether something can be read, or the time is over.
  bool Await() const {
    pollfd items[] = {{file_.fd(), POLLIN, 0}, {for_stdout_ ? STDOUT_FILENO : -1, 0, 0}};
    int ready = 0;
    do {
      ready = ::poll(items, 2, kSilenceWarningMs);
    } while (ready < 0 && errno == EINTR);
    if (items[0].revents == 0 && (items[1].revents & POLLERR) != 0) throw ReaderGone("stdout");
    return ready != 0;
  }

  const bool for_stdout_;
  Descriptor file_;
};

/// Gives back what was read for sniffing, then goes on with the source.
class PrefixedSource final : public ByteSource {
 public:
  PrefixedSource(std::string prefix, std::unique_ptr<ByteSource> rest) : prefix_(std::move(prefix)), rest_(std::move(rest)) {}

  size_t Read(char* out, size_t size) override {
    if (used_ == prefix_.size()) return rest_->Read(out, size);
    const size_t taken = prefix_.copy(out, size, used_);
    used_ += taken;
    return taken;
  }
  bool AtEnd() override { return used_ == prefix_.size() && rest_->AtEnd(); }

 private:
  std::string prefix_;
  size_t used_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

class FdSink final : public ByteSink {
 public:
  /// `final_path` is what a finished temporary file is renamed to; empty when there is none.
  FdSink(int fd, std::string name, std::string final_path) : file_(fd, std::move(name)), final_path_(std::move(final_path)) {}

  void Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = ::write(file_.fd(), bytes.data(), bytes.size());
      if (written >= 0) {
        bytes.remove_prefix(static_cast<size_t>(written));
      } else if (errno == EAGAIN) {
        file_.Wait(POLLOUT, -1);
      } else if (errno != EINTR) {
        Fail(errno);
      }
    }
  }

  size_t WriteSome(std::string_view bytes) override {
    const size_t total = bytes.size();
    while (!bytes.empty() && file_.Wait(POLLOUT, 0)) {
      const ssize_t written = ::write(file_.fd(), bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));  // what a ready pipe takes without waiting
      if (written >= 0) {
        bytes.remove_prefix(static_cast<size_t>(written));
      } else if (errno == EAGAIN) {
        break;
      } else if (errno != EINTR) {
        Fail(errno);
      }
    }
    return total - bytes.size();
  }

  void Flush() override {}

  void Finish() override {
    if (final_path_.empty()) {
      if (file_.fd() > 2) file_.Close();
      return;
    }
    if (::fdatasync(file_.fd()) != 0) throw Error::System("cannot sync", file_.name(), errno);
    file_.Close();
    if (::rename(file_.name().c_str(), final_path_.c_str()) != 0) throw Error::System("cannot rename " + file_.name() + " to", final_path_, errno);
  }

 private:
  [[noreturn]] void Fail(int error_number) const {
    if (error_number == EPIPE) {
      throw ReaderGone(file_.name());
    }
    if (error_number == ENOSPC || error_number == EDQUOT) {
      throw Error(ErrorKind::kRuntime, Error::System("cannot write", file_.name(), error_number).message(), "free some space, then run again");
    }
    throw Error::System("cannot write", file_.name(), error_number);
  }

  Descriptor file_;
  std::string final_path_;
};

bool IsZstd(std::string_view head) {
  if (head.size() < 4) return false;
  const auto magic = LoadLe<uint32_t>(head.data());
  return magic == 0xFD2FB528u || (magic & 0xFFFFFFF0u) == 0x184D2A50u;  // a zstd frame, or a skippable one
}

/// formats/buffer.md, Journal.
bool IsJournal(std::string_view head) { return IsZstd(head) && head.substr(std::min<size_t>(head.size(), 8)) == "APRJ"; }

/// What tells the kinds of files apart.
std::string FirstBytes(ByteSource& source) {
  std::string head;
  char bytes[12];
  while (head.size() < sizeof bytes) {
    const size_t got = source.Read(bytes, sizeof bytes - head.size());
    if (got == 0) break;
    head.append(bytes, got);
    if (static_cast<unsigned char>(head[0]) != 0x28 && (static_cast<unsigned char>(head[0]) & 0xf0) != 0x50) break;
  }
  return head;
}

}  // namespace

std::unique_ptr<ByteSource> OpenSource(const std::string& address, bool for_stdout, std::string* name) {
  int fd = 0;
  if (address == "-") {
    *name = "stdin";
    if (::isatty(0)) throw Error::Usage("stdin is a terminal, not a stream", "give --in FILE, or put this program behind a pipe");
  } else {
    *name = address;
    fd = ::open(address.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw Error::System("cannot open", address, errno);
    struct stat info;
    if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
      ::close(fd);
      throw Error::Usage(address + " is a directory, not a stream", "a buffer's is looked into with: partial-buffer ls -s " + address);
    }
  }
  std::unique_ptr<ByteSource> source = std::make_unique<FdSource>(fd, for_stdout, *name);
  std::string head = FirstBytes(*source);
  if (IsJournal(head)) {
    throw Error::Usage(*name + " is a segment of a buffer's journal, not a stream",
                       "partial-buffer ls -s BUFFER lists what the buffer holds, partial-buffer show -s BUFFER UID shows a rollout");
  }
  const bool compressed = IsZstd(head);
  source = std::make_unique<PrefixedSource>(std::move(head), std::move(source));
  return compressed ? MakeZstdSource(std::move(source)) : std::move(source);
}

void RequireSink(const std::string& address) {
  if (address == "-") {
    if (::isatty(1)) throw Error::Usage("stdout is a terminal, and the stream is binary", "give --out FILE, or a pipe: … | rollout-cat --json");
    return;
  }
  struct stat info;
  const bool is_new = ::stat(address.c_str(), &info) != 0 || S_ISREG(info.st_mode);
  if (!is_new && S_ISDIR(info.st_mode)) throw Error::Usage("cannot write a stream to " + address + ": it is a directory");
  const std::string written = is_new ? DirectoryOf(address) : address;
  if (::access(written.c_str(), W_OK) != 0) throw Error::System("cannot write into", written, errno);
}

std::unique_ptr<ByteSink> OpenSink(const std::string& address, bool compress) {
  RequireSink(address);
  if (address == "-") return std::make_unique<FdSink>(1, "stdout", "");
  struct stat info;
  if (::stat(address.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    const int fd = ::open(address.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) throw Error::System("cannot open", address, errno);
    return std::make_unique<FdSink>(fd, address, "");
  }
  const std::string temporary = address + ".tmp";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) throw Error::System("cannot create", temporary, errno);
  auto sink = std::make_unique<FdSink>(fd, temporary, address);
  return compress ? MakeZstdSink(std::move(sink)) : std::move(sink);
}

}  // namespace april::stream
