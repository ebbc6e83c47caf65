#include "random_records.h"

#include <algorithm>

#include "base/rng.h"

namespace april::test {

using namespace record;
using stream::Map;

uint64_t RecordMaker::Below(uint64_t limit) { return RandomBits(seed_, RandomUse::kTest, 7, index_++) % limit; }

std::string RecordMaker::Text() {
  static constexpr const char* kWords[] = {
      "", "a", "gsm8k-17", "two words", "\xc3\xa4\xe2\x82\xac", "a longer text that does not fit into thirty-one bytes"};
  return kWords[Below(std::size(kWords))];
}

Map RecordMaker::MakeMap() {
  Map map;
  for (uint64_t i = Below(4); i > 0; --i) {
    const std::string key = "x_" + std::to_string(i);
    switch (Below(4)) {
      case 0:
        map.emplace_back(key, Text());
        break;
      case 1:
        map.emplace_back(key, Real());
        break;
      case 2:
        map.emplace_back(key, stream::Array{1, -5, Text(), stream::Bin{Text()}});
        break;
      default:
        map.emplace_back(key, Map{{"deep", stream::Value()}});
        break;
    }
  }
  return map;
}

Lease RecordMaker::MakeLease() { return {Below(1 << 30), Below(9), MakeMap()}; }

void RecordMaker::FillResponse(int64_t first, int64_t num_tokens, std::vector<uint32_t>* tokens, std::vector<float>* logprobs,
                               std::vector<float>* sampled, std::vector<WeightSpan>* spans, std::vector<Segment>* segments) {
  const bool truncated = Coin();
  for (int64_t done = 0; done < num_tokens;) {
    Segment segment;
    segment.start = first + done;
    segment.len = std::min<int64_t>(num_tokens - done, static_cast<int64_t>(1 + Below(40)));
    segment.kind = Below(4) == 0 ? "tool" : "generated";
    segment.kv = Coin() ? "fresh" : "recomputed";
    segment.engine = Text();
    segment.temperature = static_cast<double>(Below(9)) / 4;
    segment.top_k = static_cast<int64_t>(Below(50));
    segment.top_p = 0.875;
    segment.wall_ms = Real() + 512;
    segment.unknown = MakeMap();
    for (int64_t i = 0; i < segment.len; ++i) {
      tokens->push_back(static_cast<uint32_t>(Below(700)));
      logprobs->push_back(segment.kind == "generated" ? -static_cast<float>(Below(1000)) / 128 : 0.0f);
      if (truncated) sampled->push_back(logprobs->back() / 2);
    }
    if (segment.kind == "generated") {
      const int64_t middle = segment.start + static_cast<int64_t>(Below(static_cast<uint64_t>(segment.len)));
      if (middle > segment.start) spans->push_back({Below(20), Below(1 << 20), segment.start, middle, MakeMap()});
      spans->push_back({Below(20), Below(1 << 20), middle, segment.start + segment.len, MakeMap()});
    }
    done += segment.len;
    segments->push_back(std::move(segment));
  }
}

void RecordMaker::FillPerToken(Rollout* rollout) {
  const auto num_tokens = static_cast<int64_t>(rollout->tokens.size());
  if (Coin()) {
    std::string mask;
    for (const Segment& segment : rollout->segments) mask.append(static_cast<size_t>(segment.len), segment.kind == "generated" ? '\1' : '\0');
    rollout->per_token["loss_mask"] = {"u8", 0, mask, MakeMap()};
  }
  const auto start = static_cast<int64_t>(Below(static_cast<uint64_t>(num_tokens) + 1));
  if (Coin()) rollout->per_token["entropy"] = {"f32", start, std::string(static_cast<size_t>(4 * (num_tokens - start)), 'e'), {}};
  if (Coin()) rollout->per_token["later"] = {"f8_of_later", start, "any bytes", {}};
}

void RecordMaker::FillStatus(Rollout* rollout) {
  switch (Below(3)) {
    case 0:
      rollout->status = rollout->tokens.empty() ? Status::kQueued : Status::kPartial;
      break;
    case 1:
      rollout->status = Status::kComplete;
      rollout->finish = Coin() ? Finish::kStop : Finish::kLength;
      break;
    default:
      rollout->status = Status::kFailed;
      rollout->finish = Coin() ? Finish::kAbort : Finish::kError;
  }
}

Rollout RecordMaker::MakeRollout() {
  Rollout rollout;
  rollout.run = Text();
  rollout.prompt_id = Text();
  rollout.group_size = static_cast<int64_t>(1 + Below(16));
  rollout.index = static_cast<int64_t>(Below(static_cast<uint64_t>(rollout.group_size)));
  rollout.epoch = static_cast<int64_t>(Below(3));
  rollout.uid = RolloutUid(rollout.run, rollout.prompt_id, rollout.epoch, rollout.index, 0) ^ Below(1 << 20);
  rollout.group_id = GroupId(rollout.run, rollout.prompt_id, rollout.epoch);
  for (uint64_t i = Below(100); i > 0; --i) rollout.prompt_tokens.push_back(static_cast<uint32_t>(Below(700)));
  FillResponse(0, static_cast<int64_t>(Below(200)), &rollout.tokens, &rollout.logprobs, &rollout.sampled_logprobs, &rollout.weight_versions,
               &rollout.segments);
  FillPerToken(&rollout);
  FillStatus(&rollout);
  rollout.seed = Below(1 << 30);
  rollout.max_tokens = 200;
  rollout.sampling = {1, 5, 0.5, 0.25, {1, 2}, {Text(), "\n"}, MakeMap()};
  rollout.resumes = static_cast<int64_t>(Below(4));
  if (!rollout.weight_versions.empty() && Coin()) rollout.born_version = rollout.weight_versions[0].version;
  if (Coin()) rollout.admitted_step = static_cast<int64_t>(Below(100));
  if (Coin()) rollout.lease = MakeLease();
  if (Coin()) rollout.label = Text();
  rollout.meta = MakeMap();
  if (Coin()) rollout.reward = Reward{Real(), {{"part", Real()}}, "ok", Text(), Text(), MakeMap()};
  if (Below(5) == 0) rollout.reward = Reward{0, {}, "timeout", "exec", "no answer", {}};
  if (Coin()) rollout.advantage = Real();
  rollout.unknown = MakeMap();
  return rollout;
}

Progress RecordMaker::MakeProgress() {
  Progress progress;
  progress.uid = Below(1 << 30);
  progress.lease = MakeLease();
  progress.start = static_cast<int64_t>(Below(1000));
  FillResponse(progress.start, static_cast<int64_t>(1 + Below(60)), &progress.tokens, &progress.logprobs, &progress.sampled_logprobs,
               &progress.weight_versions, &progress.segments);
  progress.unknown = MakeMap();
  return progress;
}

Record RecordMaker::MakeRecord() {
  switch (Below(9)) {
    case 0:
      return Prompt{Text(), {1, 2, 3}, Coin() ? std::optional(Text()) : std::nullopt, MakeMap(), MakeMap()};
    case 1:
      return Group{Below(1 << 30), Text(), 1, 3, 4, Text(), MakeMap()};
    case 2:
      return MakeProgress();
    case 3:
      return Step{Text(), 4, Below(100), Below(1 << 30), Coin(), Text(), {{Below(99), "trained"}, {Below(99), "excluded:x"}}, MakeMap(), MakeMap()};
    case 4:
      return Metrics{MakeMap(), MakeMap()};
    case 5:
      return Weights{Below(100), Below(1 << 30), Text(), MakeMap()};
    case 6:
      return Control{Text(), MakeMap(), MakeMap()};
    default:
      return MakeRollout();
  }
}

Header RecordMaker::MakeHeader() {
  Header header;
  header.minor = static_cast<int64_t>(Below(9));
  header.run = Text();
  header.purpose = Coin() ? "train" : "eval";
  if (Coin()) header.policy_version = Below(1000);
  if (Coin()) header.tokenizer = Below(1000);
  if (Coin()) header.template_digest = Below(1000);
  for (uint64_t i = Below(3); i > 0; --i) header.provenance.push_back({Text(), Text(), {Text(), Text()}, MakeMap()});
  header.unknown = MakeMap();
  return header;
}

}  // namespace april::test
