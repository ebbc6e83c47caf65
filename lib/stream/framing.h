// What every stream has besides its records: header, marks, end, and the digest that ties them together. The same on pipes, files and sockets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "stream/reader.h"
#include "stream/value.h"

namespace april::stream {

inline constexpr const char* kFormatName = "april-stream";  // on the wire: do not change
inline constexpr int64_t kMajor = 1, kMinor = 0;

const char* EndStatusText(EndStatus status);

/// Throws Data unless `header` is the header of an april stream, Incompatible when it is one of another major version.
void CheckHeader(const Map& header);

/// The writer's side: counts and digests what is written, and makes the marks and the end.
class Framer {
 public:
  explicit Framer(std::string_view header) { digest_.Update(header); }
  /// Throws Data when the record is too large or has a type that belongs to the stream itself.
  void Add(std::string_view record);
  std::string Mark() const;
  std::string End(EndStatus status) const;

 private:
  DigestStream digest_;
  uint64_t num_records_ = 0;
};

/// The reader's side: takes each map of the stream in turn and verifies it.
class Verifier {
 public:
  enum class Kind { kHeader, kRecord, kMark, kEnd };
  /// Throws Data when the map may not stand here or a digest or count disagrees; Incompatible for a header of another version.
  Kind Take(std::string_view bytes);

  bool has_header() const { return has_header_; }
  bool ended() const { return ended_; }
  uint64_t num_records() const { return num_records_; }
  EndStatus end_status() const { return end_status_; }  ///< valid once ended

 private:
  void CheckCountAndDigest(const Map& map, const char* what) const;

  DigestStream digest_;
  uint64_t num_records_ = 0;
  bool has_header_ = false, ended_ = false;
  EndStatus end_status_ = EndStatus::kOk;
};

}  // namespace april::stream
