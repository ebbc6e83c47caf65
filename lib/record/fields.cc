// The key tables. To add a key: a member in the struct, a line here, a line in formats/records.md.
#include "record/fields.h"

#include <type_traits>

#include "record/view.h"
#include "stream/framing.h"

namespace april::record {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

constexpr const char* kStatusNames[] = {"queued", "partial", "waiting", "complete", "failed"};
constexpr const char* kFinishNames[] = {"none", "stop", "length", "abort", "error"};

template <typename Enum, size_t kSize>
Enum ParseName(const std::string& text, const char* const (&names)[kSize]) {
  std::string all;
  for (size_t i = 0; i < kSize; ++i) {
    if (text == names[i]) return static_cast<Enum>(i);
    all += std::string(i ? ", " : "") + names[i];
  }
  throw Error::Data("\"" + text + "\" is none of " + all);
}

template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsBin = std::is_same_v<T, std::vector<uint32_t>> || std::is_same_v<T, std::vector<float>>;

using Parts = std::vector<std::pair<std::string, double>>;
using Outcomes = std::vector<std::pair<uint64_t, std::string>>;
using PerToken = std::map<std::string, PerTokenArray>;

template <typename T>
Value ToValue(const T& member);

Value PartsToValue(const Parts& parts) {
  Map map;
  for (const auto& [name, value] : parts) map.emplace_back(name, value);
  return map;
}

Value OutcomesToValue(const Outcomes& outcomes) {
  Array array;
  array.reserve(outcomes.size());
  for (const auto& [uid, outcome] : outcomes) array.push_back(Array{uid, outcome});
  return array;
}

Value PerTokenToValue(const PerToken& arrays) {
  Map map;
  for (const auto& [name, array] : arrays) map.emplace_back(name, ToMap(array));
  return map;
}

template <typename T>
Value ToValue(const T& member) {
  if constexpr (std::is_same_v<T, Status>) {
    return kStatusNames[static_cast<size_t>(member)];
  } else if constexpr (std::is_same_v<T, Finish>) {
    return kFinishNames[static_cast<size_t>(member)];
  } else if constexpr (kIsOptional<T>) {
    return member ? ToValue(*member) : Value();
  } else if constexpr (kIsBin<T>) {
    return Bin{std::string(reinterpret_cast<const char*>(member.data()), member.size() * sizeof member[0])};
  } else if constexpr (std::is_same_v<T, Parts>) {
    return PartsToValue(member);
  } else if constexpr (std::is_same_v<T, Outcomes>) {
    return OutcomesToValue(member);
  } else if constexpr (std::is_same_v<T, PerToken>) {
    return PerTokenToValue(member);
  } else if constexpr (std::is_same_v<T, Map>) {
    return member;
  } else if constexpr (kIsVector<T>) {
    Array array;
    array.reserve(member.size());
    for (const auto& element : member) array.push_back(ToValue(element));
    return array;
  } else if constexpr (std::is_constructible_v<Value, T>) {
    return Value(member);
  } else {
    return ToMap(member);
  }
}

template <typename T>
T FromValue(Value&& value);

Parts ValueToParts(const Map& map) {
  Parts parts;
  for (const auto& [name, value] : map) parts.emplace_back(name, value.AsDouble());
  return parts;
}

Outcomes ValueToOutcomes(const Array& array) {
  Outcomes outcomes;
  outcomes.reserve(array.size());
  for (const Value& element : array) {
    const Array& pair = element.AsArray();
    if (pair.size() != 2) throw Error::Data("an outcome of " + std::to_string(pair.size()) + " values; it is [uid, outcome]");
    outcomes.emplace_back(pair[0].AsUint(), pair[1].AsString());
  }
  return outcomes;
}

template <typename T>
std::vector<T> ValueToBin(const std::string& bytes) {
  if (bytes.size() % sizeof(T) != 0) throw Error::Data("a bin of " + std::to_string(bytes.size()) + " bytes; its elements have 4");
  std::vector<T> elements(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

PerToken ValueToPerToken(Map&& map) {
  PerToken arrays;
  for (auto& [name, value] : map) {
    static_cast<void>(value.AsMap());
    if (!arrays.emplace(name, FromMap<PerTokenArray>(std::move(std::get<Map>(value.held())))).second)
      throw Error::Data("array \"" + name + "\" twice");
  }
  return arrays;
}

Map TakeMap(Value&& value) {
  static_cast<void>(value.AsMap());
  return std::move(std::get<Map>(value.held()));
}

template <typename T>
T FromValue(Value&& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.AsBool();
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    const uint64_t wide = value.AsUint();
    if (wide > 0xffffffff) throw Error::Data("expected a uint below 2^32, found " + std::to_string(wide));
    return static_cast<uint32_t>(wide);
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return value.AsUint();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return value.AsInt();
  } else if constexpr (std::is_same_v<T, double>) {
    return value.AsDouble();
  } else if constexpr (std::is_same_v<T, std::string>) {
    static_cast<void>(value.AsString());
    return std::move(std::get<std::string>(value.held()));
  } else if constexpr (std::is_same_v<T, Status>) {
    return ParseName<Status>(value.AsString(), kStatusNames);
  } else if constexpr (std::is_same_v<T, Finish>) {
    return ParseName<Finish>(value.AsString(), kFinishNames);
  } else if constexpr (kIsOptional<T>) {
    return FromValue<typename T::value_type>(std::move(value));
  } else if constexpr (kIsBin<T>) {
    return ValueToBin<typename T::value_type>(value.AsBin());
  } else if constexpr (std::is_same_v<T, Parts>) {
    return ValueToParts(value.AsMap());
  } else if constexpr (std::is_same_v<T, Outcomes>) {
    return ValueToOutcomes(value.AsArray());
  } else if constexpr (std::is_same_v<T, PerToken>) {
    return ValueToPerToken(TakeMap(std::move(value)));
  } else if constexpr (std::is_same_v<T, Map>) {
    return TakeMap(std::move(value));
  } else if constexpr (kIsVector<T>) {
    static_cast<void>(value.AsArray());
    T elements;
    for (Value& element : std::get<Array>(value.held())) elements.push_back(FromValue<typename T::value_type>(std::move(element)));
    return elements;
  } else {
    const bool has_value = !std::is_same_v<T, Reward> || Find(value.AsMap(), "value");
    T result = FromMap<T>(TakeMap(std::move(value)));
    if constexpr (std::is_same_v<T, Reward>) {
      if (result.status == "ok" && !has_value) throw Error::Data("status ok without a value");
      if (result.status != "ok") result.value = 0;
    }
    return result;
  }
}

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

template <typename T>
std::vector<Field<T>> Named(const char* map, std::vector<Field<T>> fields) {
  for (Field<T>& field : fields) field.info.map = map;
  return fields;
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
const std::vector<Field<ProvenanceEntry>>& Fields() {
  static const auto kFields = Named<ProvenanceEntry>("provenance_entry", {
                                                                             Need<&ProvenanceEntry::tool>("tool", "str"),
                                                                             Need<&ProvenanceEntry::version>("version", "str"),
                                                                             May<&ProvenanceEntry::argv>("argv", "str[]"),
                                                                         });
  return kFields;
}

template <>
const std::vector<Field<Header>>& Fields() {
  static const auto kFields = Named<Header>("header", {
                                                          {{"", "format", "str", "", kFirst, true}, GetFormat, CheckFormat},
                                                          {{"", "version", "int[]", "", kFirst, true}, GetVersion, SetVersion},
                                                          May<&Header::run>("run", "str"),
                                                          Need<&Header::purpose>("purpose", "str"),
                                                          May<&Header::policy_version>("policy_version", "uint", "version"),
                                                          May<&Header::tokenizer>("tokenizer", "uint", "digest"),
                                                          May<&Header::template_digest>("template", "uint", "digest"),
                                                          May<&Header::provenance>("provenance", "provenance_entry[]"),
                                                      });
  return kFields;
}

template <>
const std::vector<Field<WeightSpan>>& Fields() {
  static const auto kFields = Named<WeightSpan>("span", {
                                                            Need<&WeightSpan::version>("version", "uint", "version"),
                                                            Need<&WeightSpan::weights>("weights", "uint", "digest"),
                                                            Need<&WeightSpan::start>("start", "int", "tokens"),
                                                            Need<&WeightSpan::end>("end", "int", "tokens"),
                                                        });
  return kFields;
}

template <>
const std::vector<Field<Segment>>& Fields() {
  static const auto kFields = Named<Segment>("segment", {
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
                                                        });
  return kFields;
}

template <>
const std::vector<Field<PerTokenArray>>& Fields() {
  static const auto kFields = Named<PerTokenArray>("per_token_array", {
                                                                          Need<&PerTokenArray::dtype>("dtype", "str"),
                                                                          Need<&PerTokenArray::start>("start", "int", "tokens"),
                                                                          {{"", "data", "bin", "", kFirst, true},
                                                                           [](const PerTokenArray& array) { return Value(Bin{array.data}); },
                                                                           [](PerTokenArray& array, Value&& value) { array.data = value.AsBin(); }},
                                                                      });
  return kFields;
}

template <>
const std::vector<Field<Sampling>>& Fields() {
  static const auto kFields = Named<Sampling>("sampling", {
                                                              Need<&Sampling::temperature>("temperature", "float"),
                                                              May<&Sampling::top_k>("top_k", "int", "tokens"),
                                                              May<&Sampling::top_p>("top_p", "float", "probability"),
                                                              May<&Sampling::min_p>("min_p", "float", "probability"),
                                                              May<&Sampling::stop_tokens>("stop_tokens", "bin u32", "token ids"),
                                                              May<&Sampling::stop_strings>("stop_strings", "str[]"),
                                                          });
  return kFields;
}

template <>
const std::vector<Field<Lease>>& Fields() {
  static const auto kFields = Named<Lease>("lease", {
                                                        Need<&Lease::id>("id", "uint", "id"),
                                                        Need<&Lease::epoch>("epoch", "uint"),
                                                    });
  return kFields;
}

template <>
const std::vector<Field<Reward>>& Fields() {
  static const auto kFields = Named<Reward>("reward", {
                                                          {{"", "value", "float", "", kFirst, false}, GetRewardValue, SetMember<&Reward::value>},
                                                          May<&Reward::parts>("parts", "map"),
                                                          Need<&Reward::status>("status", "str"),
                                                          Need<&Reward::scorer>("scorer", "str"),
                                                          May<&Reward::detail>("detail", "str"),
                                                      });
  return kFields;
}

template <>
const std::vector<Field<Rollout>>& Fields() {
  static const auto kFields = Named<Rollout>("rollout", {
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
                                                        });
  return kFields;
}

template <>
const std::vector<Field<Prompt>>& Fields() {
  static const auto kFields = Named<Prompt>("prompt", {
                                                          Need<&Prompt::prompt_id>("prompt_id", "str"),
                                                          Need<&Prompt::prompt_tokens>("prompt_tokens", "bin u32", "token ids"),
                                                          May<&Prompt::label>("label", "str"),
                                                          May<&Prompt::meta>("meta", "map"),
                                                      });
  return kFields;
}

template <>
const std::vector<Field<Group>>& Fields() {
  static const auto kFields = Named<Group>("group", {
                                                        Need<&Group::group_id>("group_id", "uint", "id"),
                                                        Need<&Group::prompt_id>("prompt_id", "str"),
                                                        Need<&Group::epoch>("epoch", "int"),
                                                        Need<&Group::members>("members", "int", "rollouts"),
                                                        Need<&Group::expected>("expected", "int", "rollouts"),
                                                        May<&Group::claim>("claim", "str"),
                                                    });
  return kFields;
}

template <>
const std::vector<Field<Progress>>& Fields() {
  static const auto kFields = Named<Progress>("progress", {
                                                              Need<&Progress::uid>("uid", "uint", "id"),
                                                              Need<&Progress::lease>("lease", "lease"),
                                                              Need<&Progress::start>("start", "int", "tokens"),
                                                              Need<&Progress::tokens>("tokens", "bin u32", "token ids"),
                                                              Need<&Progress::logprobs>("logprobs", "bin f32", "nats"),
                                                              May<&Progress::sampled_logprobs>("sampled_logprobs", "bin f32", "nats"),
                                                              Need<&Progress::weight_versions>("weight_versions", "span[]"),
                                                              Need<&Progress::segments>("segments", "segment[]"),
                                                          });
  return kFields;
}

template <>
const std::vector<Field<Step>>& Fields() {
  static const auto kFields = Named<Step>("step", {
                                                      Need<&Step::claim>("claim", "str"),
                                                      Need<&Step::step>("step", "int", "steps"),
                                                      Need<&Step::version>("version", "uint", "version"),
                                                      Need<&Step::weights>("weights", "uint", "digest"),
                                                      Need<&Step::advanced>("advanced", "bool"),
                                                      May<&Step::checkpoint>("checkpoint", "str"),
                                                      Need<&Step::outcomes>("outcomes", "outcome[]"),
                                                      May<&Step::metrics>("metrics", "map"),
                                                  });
  return kFields;
}

template <>
const std::vector<Field<Metrics>>& Fields() {
  static const auto kFields = Named<Metrics>("metrics", {Need<&Metrics::values>("values", "map")});
  return kFields;
}

template <>
const std::vector<Field<Weights>>& Fields() {
  static const auto kFields = Named<Weights>("weights", {
                                                            Need<&Weights::version>("version", "uint", "version"),
                                                            Need<&Weights::weights>("weights", "uint", "digest"),
                                                            May<&Weights::path>("path", "str"),
                                                        });
  return kFields;
}

template <>
const std::vector<Field<Control>>& Fields() {
  static const auto kFields = Named<Control>("control", {
                                                            Need<&Control::kind>("kind", "str"),
                                                            May<&Control::values>("values", "map"),
                                                        });
  return kFields;
}

const char* StatusText(Status status) { return kStatusNames[static_cast<size_t>(status)]; }
const char* FinishText(Finish finish) { return kFinishNames[static_cast<size_t>(finish)]; }

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
