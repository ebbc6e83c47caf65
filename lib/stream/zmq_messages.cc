#include "stream/zmq_messages.h"

#include <algorithm>

#include "base/error.h"
#include "stream/value.h"

namespace april::stream {
namespace {

const Value& Need(const Map& map, const char* key) {
  const Value* value = Find(map, key);
  if (!value) throw Error::Data(std::string("a stream message without \"") + key + "\"");
  return *value;
}

bool FlagAt(const Map& map, const char* key) {
  const Value* value = Find(map, key);
  return value && value->AsBool();
}

}  // namespace

std::string EncodeEnvelope(const Envelope& envelope) {
  Map map = {{"stream", envelope.stream}, {"seq", envelope.seq}};
  if (envelope.abandoned) map.emplace_back("abandoned", true);
  return Encode(map);
}

Envelope DecodeEnvelope(std::string_view bytes) {
  const Value value = Decode(bytes);
  const Map& map = value.AsMap();
  return {Need(map, "stream").AsUint(), Need(map, "seq").AsUint(), FlagAt(map, "abandoned")};
}

std::string EncodeNote(const Note& note) {
  Map map = {{"reader", note.reader}, {"credit", note.credit}};
  if (note.acknowledged) map.emplace_back("acknowledged", true);
  if (!note.refused.empty()) map.emplace_back("refused", note.refused);
  return Encode(map);
}

Note DecodeNote(std::string_view bytes) {
  const Value value = Decode(bytes);
  const Map& map = value.AsMap();
  const Value* refused = Find(map, "refused");
  return {Need(map, "reader").AsUint(), Need(map, "credit").AsUint(), FlagAt(map, "acknowledged"), refused ? refused->AsString() : ""};
}

int64_t BeatMs(int64_t peer_timeout_ms) { return std::clamp<int64_t>(peer_timeout_ms / 4, 1, 1000); }

}  // namespace april::stream
