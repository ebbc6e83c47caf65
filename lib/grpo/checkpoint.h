// Checkpoints: DIR/step-00000008/ holds a model directory that transformers loads as it is, the optimiser's state, the step records since the
// checkpoint before, and last manifest.json, which makes it whole. Named by the index of the next claim. With an adapter, the model is the merged
// one, and adapter/ holds the factors as PEFT loads them: a directory of its own, because transformers puts factors that lie beside a model on top of
// it. A checkpoint does not show how many ranks wrote it: rank 0 alone has the store, and while it writes or reads the others call SendOptimizer or
// ReceiveOptimizer (an adapter's it reads alone).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "grpo/state.h"
#include "record/records.h"

namespace april::grpo {

/// The model that an adapter's factors are merged into; no checkpoint contains it.
struct AdapterBase {
  std::string path;
  uint64_t weights = 0;  ///< digest
};

/// What a checkpoint says beside its tensors.
struct CheckpointInfo {
  std::string run;
  std::string method;                    ///< Method::Text()
  std::optional<uint64_t> tokenizer;     ///< digest
  uint64_t weights = 0;                  ///< digest of the manifest that this version was published with
  std::vector<record::Step> last_steps;  ///< since the checkpoint before, ascending: their claims may be emitted again when a commit was lost
  std::vector<weights::TensorView> reference = {};  ///< to write: the reference policy, unless it is the initial one
  std::optional<uint64_t> reference_weights = {};   ///< digest of the initial one, when there is one; older checkpoints do not tell it
  std::optional<AdapterBase> base = {};             ///< of the adapter, when there is one
  std::string optimizer = {};                       ///< Text(OptimizerOptions); older checkpoints do not tell it
};

/// Names are those of record/checkpoint_name.h; what is called otherwise is nobody's: neither read nor removed.
class CheckpointStore {
 public:
  /// Keeps the newest `keep` whole checkpoints. The directory comes with the first Write.
  CheckpointStore(FileSystem& files, std::string directory, int64_t keep);

  /// Writes and syncs the files, then the manifest, then the directory; returns the checkpoint's name. `sidecars` are copied beside the weights.
  /// Throws Runtime (disk full, unwritable); what was written of this checkpoint is removed then, older ones stay.
  std::string Write(const State& state, const CheckpointInfo& info, const std::vector<std::string>& sidecars, ranks::Ranks& ranks);

  /// The newest whole checkpoint's name, every file checked by digest. One without a manifest is passed over with a message; a damaged one is set
  /// aside (its manifest renamed to manifest.json.damaged) with a warning.
  std::optional<std::string> FindNewest();
  /// Whether FindNewest set a damaged one aside.
  bool has_set_aside() const { return has_set_aside_; }
  /// The newest whole one of step `step` or before; nothing on disk is changed. A damaged one is passed over with a warning.
  std::optional<std::string> FindAtOrBefore(int64_t step);
  /// Throws Usage, saying what to type, when the checkpoint was trained with another adapter, with one or without. Returns the adapter's base.
  std::optional<AdapterBase> CheckAdapter(const std::string& name, const Adapter& adapter);
  /// Fills `state`, whose configuration, adapter and base must be the checkpoint's. Throws Data, Incompatible.
  CheckpointInfo Read(const std::string& name, State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks);

  std::string PathOf(const std::string& name) const { return JoinPath(directory_, name); }
  /// Digest of the weights that a checkpoint holds, by its manifest; nullopt when there is no whole one of that name. Throws Data.
  std::optional<uint64_t> WeightsOf(const std::string& name);
  std::string ModelFile(const std::string& name) const;
  std::string OptimizerFile(const std::string& name) const;
  /// The model directory of the reference policy that the checkpoint holds by its manifest; nullopt when it was the initial one. Throws Data.
  std::optional<std::string> ReferenceModel(const std::string& name);
  std::string AdapterFile(const std::string& name) const;
  /// What a checkpoint's steps.json says of the optimiser's state behind a claim that became these weights (state_digest.h); nullopt when none tells.
  /// One that is damaged tells nothing.
  struct Recorded {
    std::string path;
    uint64_t digest = 0;
  };
  std::optional<Recorded> OptimizerBehind(const std::string& claim, uint64_t weights);
  /// Paths of a checkpoint's config.json, tokenizer and other files that belong beside published weights.
  std::vector<std::string> Sidecars(const std::string& name);

 private:
  /// What one of these directories is.
  struct Finding {
    bool has_manifest = false;
    std::string damage;  ///< "": every file is as the manifest says
  };
  std::vector<std::string> Names();  ///< newest first
  Finding Look(const std::string& name);
  Json ManifestOf(const std::string& name);
  /// Names of the files that its manifest lists. Throws Data.
  std::vector<std::string> FilesOf(const std::string& name);
  /// Removes what keep_ leaves out. What cannot be removed is warned of: the checkpoint that was written is whole.
  void Prune();
  /// Removes what lies in a checkpoint's directory, with a warning about what cannot be removed.
  void Clear(const std::string& path);
  /// Throws Runtime about the first file or directory that cannot be removed, after all others are.
  void RemoveFiles(const std::string& path);

  FileSystem& files_;
  std::string directory_;
  int64_t keep_;
  bool has_set_aside_ = false;
};

}  // namespace april::grpo
