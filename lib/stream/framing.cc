#include "stream/framing.h"

#include "base/bytes.h"
#include "base/error.h"
#include "stream/scanner.h"

namespace april::stream {
namespace {

constexpr EndStatus kStatuses[] = {EndStatus::kOk, EndStatus::kStopped, EndStatus::kError};

const Value& Need(const Map& map, const char* what, const char* key) {
  const Value* value = Find(map, key);
  if (!value) throw Error::Data(std::string("the ") + what + " has no key \"" + key + "\"");
  return *value;
}

EndStatus ParseEndStatus(const std::string& text) {
  for (const EndStatus status : kStatuses) {
    if (text == EndStatusText(status)) return status;
  }
  throw Error::Data("the end record has the status \"" + text + "\"; it is ok, stopped or error");
}

}  // namespace

const char* EndStatusText(EndStatus status) {
  switch (status) {
    case EndStatus::kOk:
      return "ok";
    case EndStatus::kStopped:
      return "stopped";
    case EndStatus::kError:
      return "error";
  }
  return "error";
}

void CheckHeader(const Map& header) {
  const Value* format = Find(header, "format");
  if (!format || format->AsString() != kFormatName) {
    throw Error::Data(std::string("the header does not say format \"") + kFormatName + "\"", "is this another program's output?");
  }
  const Array& version = Need(header, "header", "version").AsArray();
  if (version.size() != 2) throw Error::Data("the header's version has " + std::to_string(version.size()) + " numbers; it is [major, minor]");
  const int64_t major = version[0].AsInt();
  if (major != kMajor) {
    throw Error::Incompatible("the stream is version " + std::to_string(major) + "." + std::to_string(version[1].AsInt()) +
                                  ", this build reads version " + std::to_string(kMajor) + " of any minor",
                              major > kMajor ? "use a newer build of april" : "use the build of april that wrote it");
  }
}

void Framer::Add(std::string_view record) {
  const std::string_view type = TypeOf(record);
  if (type == "mark" || type == "end" || type == "header") {
    throw Error::Data("a record of type \"" + std::string(type) + "\" cannot be written: the stream makes these itself");
  }
  if (record.size() > DecodeLimits{}.max_bytes) {
    throw Error::Data("a " + std::string(type) + " record of " + HumanBytes(record.size()) + ", more than the limit of " +
                      HumanBytes(DecodeLimits{}.max_bytes));
  }
  digest_.Update(record);
  ++num_records_;
}

std::string Framer::Mark() const { return Encode(Map{{"type", "mark"}, {"records", num_records_}, {"digest", digest_.Value()}}); }

std::string Framer::End(EndStatus status) const {
  return Encode(Map{{"type", "end"}, {"records", num_records_}, {"digest", digest_.Value()}, {"status", EndStatusText(status)}});
}

void Verifier::CheckCountAndDigest(const Map& map, const char* what) const {
  const uint64_t records = Need(map, what, "records").AsUint();
  if (records != num_records_) {
    throw Error::Data(std::string("the ") + what + " says " + std::to_string(records) + " records, but " + std::to_string(num_records_) + " came",
                      "records were lost or added on the way");
  }
  const uint64_t digest = Need(map, what, "digest").AsUint();
  if (digest != digest_.Value()) {
    throw Error::Data(std::string("the ") + what + " has the digest " + HexU64(digest) + ", but what came has " + HexU64(digest_.Value()),
                      "bytes were changed since the last mark that agreed");
  }
}

Verifier::Kind Verifier::Take(std::string_view bytes) {
  if (ended_) throw Error::Data("more bytes follow the end record");
  const std::string_view type = TypeOf(bytes);
  if (!has_header_) {
    if (type != "header")
      throw Error::Data("the stream begins with a record of type \"" + std::string(type.substr(0, 40)) + "\" instead of a header");
    CheckHeader(Decode(bytes).AsMap());
    has_header_ = true;
    digest_.Update(bytes);
    return Kind::kHeader;
  }
  if (type == "header") throw Error::Data("a second header; streams cannot be joined end to end", "read the streams one by one");
  if (type == "mark") {
    CheckCountAndDigest(Decode(bytes).AsMap(), "mark");
    return Kind::kMark;
  }
  if (type == "end") {
    const Value end = Decode(bytes);
    CheckCountAndDigest(end.AsMap(), "end record");
    end_status_ = ParseEndStatus(Need(end.AsMap(), "end record", "status").AsString());
    ended_ = true;
    return Kind::kEnd;
  }
  digest_.Update(bytes);
  ++num_records_;
  return Kind::kRecord;
}

}  // namespace april::stream
