// The Reader of pipes and files.
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "stream/byte_io.h"
#include "stream/framing.h"
#include "stream/open.h"
#include "stream/scanner.h"

namespace april::stream {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr const char* kLookUpstream = "look at the message of the program that should have written it";

class ByteReader final : public Reader {
 public:
  ByteReader(const std::string& address, const ReaderOptions& options)
      : options_(options), source_(OpenSource(address, options.for_stdout, &name_)), scanner_(options.limits) {
    const auto bytes = NextMap();
    if (!bytes) {
      if (end_ == 0) Locate([&] { return source_->AtEnd(); });  // says when compressed bytes are there, but cut off
      throw Error::Data(name_ + (end_ == 0 ? " is empty: a stream begins with a header" : " ends within its header"), kLookUpstream);
    }
    Locate([&] { verifier_.Take(*bytes); });
    header_ = *bytes;
  }

  const std::string& header() const override { return header_; }

  std::optional<std::string_view> Next() override {
    while (!verifier_.ended() && !cut_) {
      const auto bytes = NextMap();
      if (!bytes) {
        HandleTruncation();
        break;
      }
      const auto kind = Locate([&] { return verifier_.Take(*bytes); });
      if (kind == Verifier::Kind::kRecord) return bytes;
      if (kind == Verifier::Kind::kEnd) CheckNothingFollows();
    }
    return std::nullopt;
  }

  EndStatus end_status() const override { return cut_ ? EndStatus::kError : verifier_.end_status(); }
  std::string Position() const override { return "record " + std::to_string(verifier_.num_records()) + " of " + name_; }

 private:
  /// Runs `action`, adding to an error where in the input it happened.
  template <typename Action>
  std::invoke_result_t<Action> Locate(Action&& action) {
    try {
      return action();
    } catch (const Error& error) {
      throw error.Within(name_ + ", after record " + std::to_string(verifier_.num_records()) + ", byte " + std::to_string(map_offset_));
    }
  }

  /// The next map of the stream, valid until the next call; nullopt when the input ends before or within it.
  std::optional<std::string_view> NextMap() {
    begin_ += map_bytes_;
    map_offset_ += map_bytes_;
    map_bytes_ = 0;
    for (;;) {
      const std::string_view pending(buffer_.data() + begin_, end_ - begin_);
      if (map_offset_ == 0 && !pending.empty()) CheckFirstByte(pending);
      if (const auto length = Locate([&] { return scanner_.Scan(pending); })) {
        map_bytes_ = *length;
        return pending.substr(0, *length);
      }
      if (!Fill()) return std::nullopt;
    }
  }

  void CheckFirstByte(std::string_view bytes) const {
    const auto first = static_cast<uint8_t>(bytes[0]);
    if ((first & 0xf0) == 0x80 || first == 0xde || first == 0xdf) return;
    std::string shown;
    for (const char letter : bytes.substr(0, 16)) shown += letter >= ' ' && letter < 127 ? letter : '.';
    throw Error::Data(name_ + " is no april stream: it begins with \"" + shown + "\" instead of a msgpack map",
                      "rollout-cat writes and reads this format; JSON and text must be converted first");
  }

  bool Fill() {
    if (begin_ > 0 && (begin_ == end_ || buffer_.size() - end_ < kReadBytes)) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (buffer_.size() - end_ < kReadBytes) buffer_.resize(std::max(2 * buffer_.size(), end_ + kReadBytes));
    const size_t got = Locate([&] { return source_->Read(buffer_.data() + end_, buffer_.size() - end_); });
    end_ += got;
    return got > 0;
  }

  void HandleTruncation() {
    const uint64_t left = end_ - begin_;
    const std::string where =
        name_ + " ends after record " + std::to_string(verifier_.num_records()) +
        (left > 0 ? ", within the next one (" + std::to_string(left) + " bytes of it, from byte " + std::to_string(map_offset_) + ")" : "") +
        ": no end record";
    if (!options_.allow_truncated) {
      throw Error::Data(where, "the program that wrote it died or was cut off; rollout-cat --allow-truncated shows what is there");
    }
    log::Warn(where);
    cut_ = true;
  }

  void CheckNothingFollows() {
    const uint64_t left = end_ - begin_ - map_bytes_;
    if (left > 0 || !Locate([&] { return source_->AtEnd(); })) {
      throw Error::Data(name_ + ": more bytes follow the end record (byte " + std::to_string(map_offset_ + map_bytes_) + ")",
                        "streams cannot be joined end to end; read them one by one");
    }
  }

  ReaderOptions options_;
  std::string name_;
  std::unique_ptr<ByteSource> source_;
  Scanner scanner_;
  Verifier verifier_;
  std::string header_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  ///< what of the buffer is filled and not yet consumed
  uint64_t map_offset_ = 0;     ///< of the current map in the (decompressed) input
  uint64_t map_bytes_ = 0;
  bool cut_ = false;
};

}  // namespace

std::unique_ptr<Reader> OpenByteReader(const Endpoint& endpoint, const ReaderOptions& options) {
  return std::make_unique<ByteReader>(endpoint.address, options);
}

}  // namespace april::stream
