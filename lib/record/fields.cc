// The key tables. To add a key: a member in the struct, a line here, a line in formats/records.md.
#include "record/fields.h"

#include "record/view.h"
#include "record/wire_values.h"
#include "stream/framing.h"

namespace april::record {
namespace {

using namespace wire;

template <typename>
struct MemberTraits;
template <typename Struct, typename Type>
struct MemberTraits<Type Struct::*> {
  using Owner = Struct;
  using Held = Type;
};
template <auto kMember>
using OwnerOf = typename MemberTraits<decltype(kMember)>::Owner;
template <auto kMember>
using HeldIn = typename MemberTraits<decltype(kMember)>::Held;

template <auto kMember>
void SetMember(OwnerOf<kMember>& owner, Value&& value) {
  owner.*kMember = FromValue<HeldIn<kMember>>(std::move(value));
}

constexpr const char* kFirst = "1.0";

/// A key that must be there.
template <auto kMember>
Field<OwnerOf<kMember>> Need(const char* key, const char* type, const char* unit = "", const char* since = kFirst) {
  return {{"", key, type, unit, since, true}, [](const OwnerOf<kMember>& owner) { return ToValue(owner.*kMember); }, SetMember<kMember>};
}

/// A key that is left out while the member has its default value.
template <auto kMember>
Field<OwnerOf<kMember>> May(const char* key, const char* type, const char* unit = "", const char* since = kFirst) {
  const auto get = [](const OwnerOf<kMember>& owner) {
    static const HeldIn<kMember> kDefault = OwnerOf<kMember>{}.*kMember;
    return owner.*kMember == kDefault ? Value() : ToValue(owner.*kMember);
  };
  return {{"", key, type, unit, since, false}, get, SetMember<kMember>};
}

Value GetFormat(const Header&) { return stream::kFormatName; }
void CheckFormat(Header&, Value&&) {}  // stream::CheckHeader has looked at it
Value GetVersion(const Header& header) { return Array{header.major, header.minor}; }
void SetVersion(Header& header, Value&& value) {
  header.major = value.AsArray().at(0).AsInt();
  header.minor = value.AsArray().at(1).AsInt();
}

/// An error is not a zero: a reward that could not be determined has no value on the wire.
Value GetRewardValue(const Reward& reward) { return reward.status == "ok" ? Value(reward.value) : Value(); }

template <typename T>
void AppendInfos(std::vector<KeyInfo>* table) {
  for (const Field<T>& field : Fields<T>()) table->push_back(field.info);
}

}  // namespace

template <>
Table<ProvenanceEntry> MakeTable() {
  return {"provenance_entry",
          {
              Need<&ProvenanceEntry::tool>("tool", "str"),
              Need<&ProvenanceEntry::version>("version", "str"),
              May<&ProvenanceEntry::argv>("argv", "str[]"),
          }};
}

template <>
Table<Header> MakeTable() {
  return {"header",
          {
              {{"", "format", "str", "", kFirst, true}, GetFormat, CheckFormat},
              {{"", "version", "int[]", "", kFirst, true}, GetVersion, SetVersion},
              May<&Header::run>("run", "str"),
              Need<&Header::purpose>("purpose", "str"),
              May<&Header::policy_version>("policy_version", "uint", "version"),
              May<&Header::tokenizer>("tokenizer", "uint", "digest"),
              May<&Header::template_digest>("template", "uint", "digest"),
              May<&Header::provenance>("provenance", "provenance_entry[]"),
          }};
}

template <>
Table<WeightSpan> MakeTable() {
  return {"span",
          {
              Need<&WeightSpan::version>("version", "uint", "version"),
              Need<&WeightSpan::weights>("weights", "uint", "digest"),
              Need<&WeightSpan::start>("start", "int", "tokens"),
              Need<&WeightSpan::end>("end", "int", "tokens"),
          }};
}

template <>
Table<Segment> MakeTable() {
  return {"segment",
          {
              Need<&Segment::start>("start", "int", "tokens"),
              Need<&Segment::len>("len", "int", "tokens"),
              Need<&Segment::kind>("kind", "str"),
              May<&Segment::engine>("engine", "str"),
              May<&Segment::kernels>("kernels", "str"),
              Need<&Segment::kv>("kv", "str"),
              Need<&Segment::temperature>("temperature", "float"),
              May<&Segment::top_k>("top_k", "int", "tokens"),
              May<&Segment::top_p>("top_p", "float", "probability"),
              May<&Segment::min_p>("min_p", "float", "probability"),
              May<&Segment::wall_ms>("wall_ms", "float", "ms"),
          }};
}

template <>
Table<PerTokenArray> MakeTable() {
  return {"per_token_array",
          {
              Need<&PerTokenArray::dtype>("dtype", "str"),
              Need<&PerTokenArray::start>("start", "int", "tokens"),
              {{"", "data", "bin", "", kFirst, true},
               [](const PerTokenArray& array) { return Value(Bin{array.data}); },
               [](PerTokenArray& array, Value&& value) { array.data = value.AsBin(); }},
          }};
}

template <>
Table<Sampling> MakeTable() {
  return {"sampling",
          {
              Need<&Sampling::temperature>("temperature", "float"),
              May<&Sampling::top_k>("top_k", "int", "tokens"),
              May<&Sampling::top_p>("top_p", "float", "probability"),
              May<&Sampling::min_p>("min_p", "float", "probability"),
              May<&Sampling::stop_tokens>("stop_tokens", "bin u32", "token ids"),
              May<&Sampling::stop_strings>("stop_strings", "str[]"),
          }};
}

template <>
Table<Lease> MakeTable() {
  return {"lease",
          {
              Need<&Lease::id>("id", "uint", "id"),
              Need<&Lease::epoch>("epoch", "uint"),
          }};
}

template <>
Table<Reward> MakeTable() {
  return {"reward",
          {
              {{"", "value", "float", "", kFirst, false}, GetRewardValue, SetMember<&Reward::value>},
              May<&Reward::parts>("parts", "map"),
              Need<&Reward::status>("status", "str"),
              Need<&Reward::scorer>("scorer", "str"),
              May<&Reward::detail>("detail", "str"),
          }};
}

template <>
Table<Rollout> MakeTable() {
  return {"rollout",
          {
              Need<&Rollout::uid>("uid", "uint", "id"),
              Need<&Rollout::run>("run", "str"),
              Need<&Rollout::prompt_id>("prompt_id", "str"),
              Need<&Rollout::group_id>("group_id", "uint", "id"),
              Need<&Rollout::epoch>("epoch", "int"),
              Need<&Rollout::index>("index", "int"),
              Need<&Rollout::attempt>("attempt", "int"),
              Need<&Rollout::group_size>("group_size", "int", "rollouts"),
              Need<&Rollout::prompt_tokens>("prompt_tokens", "bin u32", "token ids"),
              Need<&Rollout::tokens>("tokens", "bin u32", "token ids"),
              Need<&Rollout::logprobs>("logprobs", "bin f32", "nats"),
              May<&Rollout::sampled_logprobs>("sampled_logprobs", "bin f32", "nats"),
              May<&Rollout::per_token>("per_token", "map"),
              Need<&Rollout::weight_versions>("weight_versions", "span[]"),
              Need<&Rollout::segments>("segments", "segment[]"),
              Need<&Rollout::status>("status", "str"),
              May<&Rollout::finish>("finish", "str"),
              Need<&Rollout::seed>("seed", "uint"),
              Need<&Rollout::max_tokens>("max_tokens", "int", "tokens"),
              Need<&Rollout::sampling>("sampling", "sampling"),
              Need<&Rollout::resumes>("resumes", "int"),
              May<&Rollout::born_version>("born_version", "uint", "version"),
              May<&Rollout::admitted_step>("admitted_step", "int", "steps"),
              May<&Rollout::lease>("lease", "lease"),
              May<&Rollout::label>("label", "str"),
              May<&Rollout::meta>("meta", "map"),
              May<&Rollout::reward>("reward", "reward"),
              May<&Rollout::advantage>("advantage", "float"),
          }};
}

template <>
Table<Prompt> MakeTable() {
  return {"prompt",
          {
              Need<&Prompt::prompt_id>("prompt_id", "str"),
              Need<&Prompt::prompt_tokens>("prompt_tokens", "bin u32", "token ids"),
              May<&Prompt::label>("label", "str"),
              May<&Prompt::meta>("meta", "map"),
          }};
}

template <>
Table<Group> MakeTable() {
  return {"group",
          {
              Need<&Group::group_id>("group_id", "uint", "id"),
              Need<&Group::prompt_id>("prompt_id", "str"),
              Need<&Group::epoch>("epoch", "int"),
              Need<&Group::members>("members", "int", "rollouts"),
              Need<&Group::expected>("expected", "int", "rollouts"),
              May<&Group::claim>("claim", "str"),
          }};
}

template <>
Table<Progress> MakeTable() {
  return {"progress",
          {
              Need<&Progress::uid>("uid", "uint", "id"),
              Need<&Progress::lease>("lease", "lease"),
              Need<&Progress::start>("start", "int", "tokens"),
              Need<&Progress::tokens>("tokens", "bin u32", "token ids"),
              Need<&Progress::logprobs>("logprobs", "bin f32", "nats"),
              May<&Progress::sampled_logprobs>("sampled_logprobs", "bin f32", "nats"),
              Need<&Progress::weight_versions>("weight_versions", "span[]"),
              Need<&Progress::segments>("segments", "segment[]"),
          }};
}

template <>
Table<Step> MakeTable() {
  return {"step",
          {
              Need<&Step::claim>("claim", "str"),
              Need<&Step::step>("step", "int", "steps"),
              Need<&Step::version>("version", "uint", "version"),
              Need<&Step::weights>("weights", "uint", "digest"),
              Need<&Step::advanced>("advanced", "bool"),
              May<&Step::checkpoint>("checkpoint", "str"),
              Need<&Step::outcomes>("outcomes", "outcome[]"),
              May<&Step::metrics>("metrics", "map"),
          }};
}

template <>
Table<Metrics> MakeTable() {
  return {"metrics",
          {
              Need<&Metrics::values>("values", "map"),
          }};
}

template <>
Table<Weights> MakeTable() {
  return {"weights",
          {
              Need<&Weights::version>("version", "uint", "version"),
              Need<&Weights::weights>("weights", "uint", "digest"),
              May<&Weights::path>("path", "str"),
          }};
}

template <>
Table<Control> MakeTable() {
  return {"control",
          {
              Need<&Control::kind>("kind", "str"),
              May<&Control::values>("values", "map"),
          }};
}

const char* StatusText(Status status) { return kStatusNames[static_cast<size_t>(status)]; }
const char* FinishText(Finish finish) { return kFinishNames[static_cast<size_t>(finish)]; }
Finish ParseFinish(const std::string& text) { return ParseName<Finish>(text, kFinishNames); }

const std::vector<KeyInfo>& KeyTable() {
  static const std::vector<KeyInfo> kTable = [] {
    std::vector<KeyInfo> table;
    AppendInfos<Header>(&table);
    AppendInfos<ProvenanceEntry>(&table);
    AppendInfos<Rollout>(&table);
    AppendInfos<WeightSpan>(&table);
    AppendInfos<Segment>(&table);
    AppendInfos<PerTokenArray>(&table);
    AppendInfos<Sampling>(&table);
    AppendInfos<Lease>(&table);
    AppendInfos<Reward>(&table);
    AppendInfos<Prompt>(&table);
    AppendInfos<Group>(&table);
    AppendInfos<Progress>(&table);
    AppendInfos<Step>(&table);
    AppendInfos<Metrics>(&table);
    AppendInfos<Weights>(&table);
    AppendInfos<Control>(&table);
    return table;
  }();
  return kTable;
}

}  // namespace april::record
