// Seeded random records that keep every rule of formats/records.md.
#pragma once

#include "record/records.h"

namespace april::test {

class RecordMaker {
 public:
  explicit RecordMaker(uint64_t seed) : seed_(seed) {}
  record::Rollout MakeRollout();
  record::Progress MakeProgress();
  record::Record MakeRecord();  ///< of any known type
  record::Header MakeHeader();
  uint64_t Below(uint64_t limit);

 private:
  bool Coin() { return Below(2) == 1; }
  double Real() { return static_cast<double>(Below(1 << 20)) / 1024 - 512; }
  std::string Text();
  stream::Map MakeMap();
  record::Lease MakeLease();
  void FillResponse(int64_t first, int64_t num_tokens, std::vector<uint32_t>* tokens, std::vector<float>* logprobs, std::vector<float>* sampled,
                    std::vector<record::WeightSpan>* spans, std::vector<record::Segment>* segments);
  void FillPerToken(record::Rollout* rollout);
  void FillStatus(record::Rollout* rollout);
  uint64_t seed_, index_ = 0;
};

}  // namespace april::test
