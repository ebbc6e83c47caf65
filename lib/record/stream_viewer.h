// What rollout-cat makes of a stream: text, JSON, counts, the canonical form, or a copy.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "record/records.h"
#include "record/view.h"
#include "stream/endpoint.h"
#include "stream/writer.h"

namespace april::record {

struct ViewOptions {
  bool lines = false, json = false, text = false, check = false, count = false, canonical = false;

  void Register(OptionsVisitor& options);
  bool any() const { return lines || json || text || check || count || canonical; }
  /// Throws Usage for views that exclude each other, or that are no stream although one is to be written.
  void Check(const stream::Endpoints& io) const;
};

/// Takes the records of a stream in turn, and its end.
class StreamViewer {
 public:
  /// Tokens as valid UTF-8.
  using Decode = std::function<std::string(const std::vector<uint32_t>& tokens)>;

  /// `io` says where a copy or the canonical form goes; `header` is the header's bytes; `decode` is for options.text alone.
  StreamViewer(const ViewOptions& options, const stream::Endpoints& io, std::string header, Decode decode);

  bool is_copy() const { return is_copy_; }
  bool open() const { return open_; }  ///< false once nobody reads the text any more
  /// Whether each record makes text on a terminal: no place for a line of progress.
  bool fills_terminal() const;

  /// Throws Data (a record that cannot be decoded), Runtime (cannot write).
  void Take(std::string_view record);
  void Finish(stream::EndStatus status);

 private:
  std::unique_ptr<stream::Writer> Open(const std::string& header) const;
  std::string Text(const Record& record) const;
  std::string Indented(const char* name, const std::vector<uint32_t>& tokens) const;
  void Print(const std::string& line);
  void PrintCounts();
  void FinishCanonical(stream::EndStatus status);

  const ViewOptions options_;
  const stream::Endpoints io_;
  const std::string header_;
  const Decode decode_;
  const bool on_terminal_;
  std::unique_ptr<stream::Writer> writer_;
  std::vector<CanonicalRecord> canonical_;
  std::map<std::string, uint64_t> counts_;
  bool is_copy_ = false, open_ = true;
};

}  // namespace april::record
