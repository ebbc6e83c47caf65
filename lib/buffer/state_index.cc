// A state as bytes, positions in the journal included, and back: what the index holds. Members, of which there may be millions, are raw; the rest are
// the entries of a snapshot.
#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/buffer_state.h"

namespace april::buffer {
namespace {

/// Appends the same fields that FieldReader reads.
class FieldWriter {
 public:
  explicit FieldWriter(std::string* out) : out_(out) {}
  template <typename... T>
  void operator()(const T&... values) {
    (AppendLe(*out_, values), ...);
  }
  void List(const std::vector<Position>& list) {
    AppendLe(*out_, static_cast<uint32_t>(list.size()));
    for (const Position position : list) AppendLe(*out_, position);
  }

 private:
  std::string* out_;
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}
  template <typename... T>
  void operator()(T&... values) {
    ((values = LoadLe<T>(Next(sizeof(T)).data())), ...);
  }
  void List(std::vector<Position>& list) {
    uint32_t size = 0;
    (*this)(size);
    const std::string_view raw = Next(size * sizeof(Position));
    list.reserve(size);
    for (size_t i = 0; i < size; ++i) list.push_back(LoadLe<Position>(raw.data() + i * sizeof(Position)));
  }
  std::string_view Next(size_t size) {
    if (size > bytes_.size()) throw Error::Data("the index is cut short");
    const std::string_view next = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return next;
  }
  DecodedEntry NextEntry() {
    const DecodedEntry decoded = ReadEntry(bytes_);
    Next(decoded.entry_bytes);
    return decoded;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

template <typename Fields, typename Meta>
void MemberFields(Fields& fields, Meta& meta) {
  static_assert(sizeof(RolloutMeta) == 120, "a new field belongs here too");
  fields(meta.uid, meta.payload, meta.chain, meta.record_digest, meta.lease_id, meta.changed_ns, meta.lease_epoch, meta.tokens, meta.resumes,
         meta.reward, meta.state, meta.finish, meta.has_reward, meta.ungraded, meta.has_versions, meta.oldest, meta.newest);
  fields.List(meta.deltas);
}

}  // namespace

void State::Save(std::string* out) const {
  FieldWriter fields(out);
  AppendEntry(InitEntry{config_}, 0, {}, out);
  queue_.Save(out);
  AppendEntry(Snapshot(), 0, {}, out);
  for (const auto& [admission, group] : groups_) {
    AppendEntry(SnapshotOf(admission), 0, {}, out);
    for (const RolloutMeta& member : group.members) MemberFields(fields, member);
  }
}

void State::Load(std::string_view bytes) {
  FieldReader fields(bytes);
  Apply(fields.NextEntry(), {});
  queue_.Load([&](size_t size) { return fields.Next(size); });
  Apply(fields.NextEntry(), {});
  while (!fields.empty()) {
    Apply(fields.NextEntry(), {});
    for (int64_t i = 0; i < config_.group_size; ++i) {
      RolloutMeta member;
      MemberFields(fields, member);
      AddMember(std::move(member));
    }
  }
}

}  // namespace april::buffer
