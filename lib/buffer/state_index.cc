// A state as bytes, positions in the journal included, and back: what the index holds. Members, of which there may be millions, are raw; the rest are
// the entries of a snapshot.
#include "buffer/buffer_state.h"
#include "buffer/index_fields.h"

namespace april::buffer {
namespace {

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
  fields.Entry(InitEntry{config_});
  queue_.Save(fields);
  fields.Entry(Snapshot());
  for (const auto& [admission, group] : groups_) {
    fields.Entry(SnapshotOf(admission));
    for (const RolloutMeta& member : group.members) MemberFields(fields, member);
  }
}

void State::Load(std::string_view bytes) {
  FieldReader fields(bytes);
  Apply(fields.Entry(), {});
  queue_.Load(fields);
  Apply(fields.Entry(), {});
  while (!fields.empty()) {
    Apply(fields.Entry(), {});
    for (int64_t i = 0; i < config_.group_size; ++i) {
      RolloutMeta member;
      MemberFields(fields, member);
      AddMember(std::move(member));
    }
  }
}

}  // namespace april::buffer
