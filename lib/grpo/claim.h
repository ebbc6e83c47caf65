// Claims: what one update trains on, as `partial-buffer claim` emits it, read and checked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "record/io.h"

namespace april::grpo {

struct ClaimGroup {
  record::Group group;
  std::vector<record::Rollout> rollouts;
};

struct Claim {
  std::string id;
  int64_t step = 0;
  bool replay = false;                      ///< made before, and must become the same weights again
  std::optional<uint64_t> trained_weights;  ///< digest of these, of a replay that was committed
  std::vector<ClaimGroup> groups;
  record::Control control;  ///< the claim's head, as it came

  int64_t NumRollouts() const;
};

/// A claim of its records: the control record, and each group before its rollouts.
Claim ClaimOf(std::vector<record::Record> records);

/// Reads whole claims from a stream.
class ClaimReader {
 public:
  ClaimReader(const std::string& endpoint, const stream::ReaderOptions& options) : records_(endpoint, options) {}
  const record::Header& header() const { return records_.header(); }
  /// nullopt only after a verified end record. Throws Data naming claim, group and rollout when a member is missing, a count disagrees, a group
  /// or rollout comes twice, or a rollout stands in a group that is not its own.
  std::optional<Claim> Next();
  stream::EndStatus end_status() const { return records_.end_status(); }

 private:
  std::optional<Claim> ReadClaim();
  /// `group_of` has the groups of the claim's rollouts so far, by uid.
  void ReadGroup(Claim* claim, std::map<uint64_t, uint64_t>* group_of, record::Record record);

  record::RecordReader records_;
};

/// Writes one claim as a whole stream that ClaimReader reads: for a claim that could not be applied.
void WriteClaim(const Claim& claim, const record::Header& header, const std::string& path);

}  // namespace april::grpo
