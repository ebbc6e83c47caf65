#include "grpo/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "grpo/sharding.h"
#include "grpo/state_digest.h"
#include "record/checkpoint_name.h"
#include "weights/safetensors.h"

namespace april::grpo {
namespace {

constexpr const char* kManifest = "manifest.json";
constexpr const char* kRewound = ".rewound";  // behind a manifest's name: partial-buffer rewind set the checkpoint aside
constexpr const char* kDamaged = ".damaged";  // this store did
constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kReference = "reference";  // a directory
constexpr const char* kReferenceModel = "reference/model.safetensors";
constexpr const char* kReferenceConfig = "reference/config.json";
constexpr const char* kSteps = "steps.json";
constexpr const char* kAdapter = "adapter";  // a directory
constexpr const char* kAdapterModel = "adapter/adapter_model.safetensors";
constexpr const char* kAdapterConfig = "adapter/adapter_config.json";

/// Writes files of one checkpoint, each synced, and lists them.
class FileWriter {
 public:
  FileWriter(FileSystem& files, std::string directory) : files_(files), directory_(std::move(directory)) {}

  void Begin(const std::string& name) {
    name_ = name;
    digest_ = DigestStream();
    file_ = files_.Create(JoinPath(directory_, name));
  }
  void Append(const void* data, uint64_t num_bytes) {
    digest_.Update(data, num_bytes);
    file_->Append(data, num_bytes);
  }
  void End() {
    file_->Sync();
    list_.push_back({{"name", name_}, {"size", file_->Size()}, {"digest", HexU64(digest_.Value())}});
    file_->Close();
    file_.reset();
  }
  /// `append` appends the tensor of that index.
  template <typename AppendTensor>
  void WriteTensors(const std::string& name, const std::vector<weights::TensorView>& tensors, const weights::SafetensorsMetadata& metadata,
                    const AppendTensor& append) {
    const auto layout = weights::LayOutSafetensors(tensors, metadata);
    Begin(name);
    Append(layout.head.data(), layout.head.size());
    for (const size_t index : layout.order) append(index);
    End();
  }
  void WriteText(const std::string& name, const std::string& text) {
    Begin(name);
    Append(text.data(), text.size());
    End();
  }
  const Json& list() const { return list_; }

 private:
  FileSystem& files_;
  std::string directory_, name_;
  std::unique_ptr<WritableFile> file_;
  DigestStream digest_;
  Json list_ = Json::array();
};

Json ToJson(const record::Step& step) {
  Json outcomes = Json::array();
  for (const auto& [uid, outcome] : step.outcomes) outcomes.push_back({HexU64(uid), outcome});
  Json json = {{"claim", step.claim},       {"step", step.step},
               {"version", step.version},   {"weights", HexU64(step.weights)},
               {"advanced", step.advanced}, {"outcomes", std::move(outcomes)}};
  if (const stream::Value* digest = stream::Find(step.metrics, kOptimizerDigest)) json[kOptimizerDigest] = HexU64(digest->AsUint());
  return json;
}

record::Step StepFromJson(const Json& json) {
  record::Step step;
  step.claim = json.at("claim");
  step.step = json.at("step");
  step.version = json.at("version");
  step.weights = ParseHexU64(json.at("weights").get<std::string>());
  step.advanced = json.at("advanced");
  for (const Json& outcome : json.at("outcomes")) step.outcomes.emplace_back(ParseHexU64(outcome.at(0).get<std::string>()), outcome.at(1));
  if (json.contains(kOptimizerDigest)) stream::Set(step.metrics, kOptimizerDigest, ParseHexU64(json.at(kOptimizerDigest).get<std::string>()));
  return step;
}

/// What `use` makes of a JSON text's values. Throws Data about `subject` when one is missing or of another type.
template <typename Use>
auto WithJson(const std::string& subject, const Use& use) {
  try {
    return use();
  } catch (const Json::exception& error) {
    throw Error::Data(subject + ": " + JsonProblem(error));
  }
}

std::string FileName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

/// Throws Data unless every listed file has its size and digest.
void Verify(FileSystem& files, const std::string& directory, const Json& manifest) {
  for (const Json& file : manifest.at("files")) {
    const std::string path = JoinPath(directory, file.at("name").get<std::string>());
    if (!files.Exists(path)) throw Error::Data(path + " is missing");
    const MappedFile mapped(path);
    const auto size = file.at("size").get<uint64_t>();
    if (mapped.bytes().size() != size)
      throw Error::Data(path + " has " + std::to_string(mapped.bytes().size()) + " bytes, its manifest says " + std::to_string(size));
    const std::string seen = HexU64(Digest(mapped.bytes()));
    if (seen != file.at("digest").get<std::string>())
      throw Error::Data(path + " has digest " + seen + ", its manifest says " + file.at("digest").get<std::string>());
  }
}

Json ToJson(const Adapter& adapter, const AdapterBase& base) {
  return {{"rank", adapter.rank},
          {"alpha", adapter.alpha},
          {"modules", adapter.modules},
          {"base_model", base.path},
          {"base_weights", HexU64(base.weights)}};
}

/// Without its targets, which a model's configuration gives.
Adapter AdapterFromJson(const Json& json) { return {json.at("rank"), json.at("alpha"), json.at("modules"), {}}; }
AdapterBase BaseFromJson(const Json& json) { return {json.at("base_model"), ParseHexU64(json.at("base_weights").get<std::string>())}; }

/// The file's f32 tensor that belongs into `view`.
const float* FindTensor(const weights::SafetensorsFile& file, const weights::TensorView& view) {
  const auto found = std::lower_bound(file.tensors().begin(), file.tensors().end(), view.name,
                                      [](const auto& tensor, const std::string& key) { return tensor.name < key; });
  if (found == file.tensors().end() || found->name != view.name) throw Error::Data(file.path() + " has no tensor " + view.name);
  if (found->dtype != weights::DType::kF32 || found->num_bytes != view.num_bytes) {
    throw Error::Data(file.path() + ": tensor " + view.name + " is " + weights::Name(found->dtype) + " of " + std::to_string(found->num_bytes) +
                      " bytes, expected F32 of " + std::to_string(view.num_bytes));
  }
  return static_cast<const float*>(found->data);
}

}  // namespace

CheckpointStore::CheckpointStore(FileSystem& files, std::string directory, int64_t keep)
    : files_(files), directory_(std::move(directory)), keep_(keep) {}

std::vector<std::string> CheckpointStore::Names() {
  std::vector<std::string> names;
  if (!files_.Exists(directory_)) return names;
  for (std::string& name : files_.List(directory_)) {
    if (record::StepOfCheckpoint(name)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return *record::StepOfCheckpoint(a) > *record::StepOfCheckpoint(b); });
  return names;
}

std::string CheckpointStore::Write(const State& state, const CheckpointInfo& info, const std::vector<std::string>& sidecars, ranks::Ranks& ranks) {
  const std::string name = record::CheckpointName(state.step), path = PathOf(name), manifest_path = JoinPath(path, kManifest);
  files_.MakeDirectory(path);
  files_.SyncDirectory(directory_);
  if (files_.Exists(manifest_path)) {  // it must not look whole while it is overwritten
    files_.Remove(manifest_path);
    files_.SyncDirectory(path);
  }
  Clear(path);  // of another course: this one's must have nothing that it did not write
  FileWriter writer(files_, path);
  try {
    for (const std::string& sidecar : sidecars) writer.WriteText(FileName(sidecar), ReadFile(files_, sidecar));
    const auto append = [&writer](const void* data, uint64_t num_bytes) { writer.Append(data, num_bytes); };
    const auto write = [&](const char* file, const std::vector<weights::TensorView>& tensors) {
      writer.WriteTensors(file, tensors, {{"format", "pt"}}, [&](size_t view) { append(tensors[view].data, tensors[view].num_bytes); });
    };
    write(kModel, state.RoundedViews());
    if (!info.reference.empty()) {
      files_.MakeDirectory(JoinPath(path, kReference));
      write(kReferenceModel, info.reference);
      for (const std::string& sidecar : sidecars) {
        if (FileName(sidecar) == "config.json") writer.WriteText(kReferenceConfig, ReadFile(files_, sidecar));
      }
      files_.SyncDirectory(JoinPath(path, kReference));
    }
    if (info.base) {
      files_.MakeDirectory(JoinPath(path, kAdapter));
      write(kAdapterModel, state.FactorViews());
      writer.WriteText(kAdapterConfig, AdapterConfigText(state.adapter(), info.base->path));
      files_.SyncDirectory(JoinPath(path, kAdapter));
    }
    writer.WriteTensors(kOptimizer, state.OptimizerViews(), {{"optimizer_steps", std::to_string(state.optimizer_steps)}},
                        [&](size_t view) { Collect(state, view, ranks, append); });
    Json steps = Json::array();
    for (const record::Step& step : info.last_steps) steps.push_back(ToJson(step));
    writer.WriteText(kSteps, steps.dump());
    files_.SyncDirectory(path);
    Json manifest = {{"format", "april-checkpoint"},
                     {"format_version", {1, 4}},
                     {"step", state.step},
                     {"version", state.version},
                     {"optimizer_steps", state.optimizer_steps},
                     {"weights", HexU64(info.weights)},
                     {"run", info.run},
                     {"tokenizer", info.tokenizer ? Json(HexU64(*info.tokenizer)) : Json()},
                     {"method", info.method},
                     {"optimizer", info.optimizer},
                     {"files", writer.list()}};
    if (info.reference_weights) manifest["reference_weights"] = HexU64(*info.reference_weights);
    if (info.base) manifest["adapter"] = ToJson(state.adapter(), *info.base);
    ReplaceFile(files_, manifest_path, manifest.dump(1) + "\n", /*durable=*/true);
  } catch (const Error&) {
    try {
      RemoveFiles(path);
    } catch (const Error&) {  // the first failure is the one to report
    }
    throw;
  }
  Prune();
  return name;
}

CheckpointStore::Finding CheckpointStore::Look(const std::string& name) {
  const std::string path = PathOf(name), manifest_path = JoinPath(path, kManifest);
  if (!files_.Exists(manifest_path)) {
    const char* why = files_.Exists(manifest_path + kRewound)   ? "was set aside by a rewind"
                      : files_.Exists(manifest_path + kDamaged) ? "was set aside as damaged"
                                                                : "has no manifest: its writing was cut short; passed over";
    log::Info("checkpoint " + path + " " + why);
    return {};
  }
  try {
    const Json manifest = Json::parse(ReadFile(files_, manifest_path));
    const auto major = manifest.at("format_version").at(0).get<int64_t>();
    if (major > 1) throw Error::Incompatible("checkpoint " + path + " has format version " + std::to_string(major) + ", this build reads version 1");
    const auto step = manifest.at("step").get<int64_t>();
    if (step != record::StepOfCheckpoint(name)) {
      throw Error::Data("it is called " + name + " and holds step " + std::to_string(step) + ": a renamed copy");
    }
    Verify(files_, path, manifest);
    return {true, ""};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;  // unreadable is not damaged
    return {true, error.message()};
  } catch (const Json::exception& error) {
    return {true, manifest_path + ": " + JsonProblem(error)};
  }
}

std::optional<std::string> CheckpointStore::FindNewest() {
  for (const std::string& name : Names()) {
    const Finding found = Look(name);
    if (!found.has_manifest) continue;
    const std::string path = PathOf(name), manifest_path = JoinPath(path, kManifest);
    if (found.damage.empty()) {
      // Who wrote it may have been killed before its names were on disk; the buffer will be told of it as of one that lasts.
      files_.SyncDirectory(path);
      files_.SyncDirectory(directory_);
      return name;
    }
    log::Warn("checkpoint " + path + " is damaged and set aside: " + found.damage);
    files_.Rename(manifest_path, manifest_path + kDamaged);
    has_set_aside_ = true;
  }
  return std::nullopt;
}

std::optional<std::string> CheckpointStore::FindAtOrBefore(int64_t step) {
  for (const std::string& name : Names()) {
    if (*record::StepOfCheckpoint(name) > step) continue;
    const Finding found = Look(name);
    if (found.has_manifest && found.damage.empty()) return name;
    if (found.has_manifest) log::Warn("checkpoint " + PathOf(name) + " is damaged and passed over: " + found.damage);
  }
  return std::nullopt;
}

std::optional<AdapterBase> CheckpointStore::CheckAdapter(const std::string& name, const Adapter& adapter) {
  const std::string path = PathOf(name);
  return WithJson("checkpoint " + path, [&] {
    const Json manifest = ManifestOf(name);
    const Adapter recorded = manifest.contains("adapter") ? AdapterFromJson(manifest.at("adapter")) : Adapter{};
    if (recorded.rank != adapter.rank || recorded.alpha != adapter.alpha || recorded.modules != adapter.modules) {
      const std::string options = recorded.exists() ? "go on with " + recorded.Text() : "go on without --lora";
      throw Error::Usage("checkpoint " + path + " was trained with " + recorded.Text() + ", and this run has " + adapter.Text(),
                         options + "; to change it, begin a new run (another buffer, --from and --publish) with --model " + path);
    }
    return recorded.exists() ? std::optional(BaseFromJson(manifest.at("adapter"))) : std::nullopt;
  });
}

CheckpointInfo CheckpointStore::Read(const std::string& name, State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks) {
  const std::string path = PathOf(name);
  return WithJson("checkpoint " + path, [&] {
    const Json manifest = ManifestOf(name);
    if (state->adapter().exists()) {  // rank 0 has them whole
      const weights::SafetensorsFile factors(JoinPath(path, kAdapterModel));
      const std::vector<weights::TensorView> views = state->FactorViews();
      for (size_t i = 0; i < views.size(); ++i) std::memcpy(state->Master(i).data(), FindTensor(factors, views[i]), views[i].num_bytes);
    }
    const weights::SafetensorsFile optimizer(JoinPath(path, kOptimizer));
    const std::vector<weights::TensorView> views = state->OptimizerViews();
    for (size_t view = 0; view < views.size(); ++view) Scatter(state, view, FindTensor(optimizer, views[view]), ranks);
    state->Round(pool);
    state->step = manifest.at("step");
    state->version = manifest.at("version");
    state->optimizer_steps = manifest.at("optimizer_steps");
    CheckpointInfo info{manifest.at("run"), manifest.at("method"), std::nullopt, ParseHexU64(manifest.at("weights").get<std::string>()), {}};
    if (manifest.contains("optimizer")) info.optimizer = manifest.at("optimizer");
    if (manifest.contains("adapter")) info.base = BaseFromJson(manifest.at("adapter"));
    if (manifest.contains("reference_weights")) info.reference_weights = ParseHexU64(manifest.at("reference_weights").get<std::string>());
    if (!manifest.at("tokenizer").is_null()) info.tokenizer = ParseHexU64(manifest.at("tokenizer").get<std::string>());
    for (const Json& step : Json::parse(ReadFile(files_, JoinPath(path, kSteps)))) {
      info.last_steps.push_back(StepFromJson(step));
      info.last_steps.back().checkpoint = name;
    }
    return info;
  });
}

std::string CheckpointStore::ModelFile(const std::string& name) const { return JoinPath(PathOf(name), kModel); }
std::string CheckpointStore::OptimizerFile(const std::string& name) const { return JoinPath(PathOf(name), kOptimizer); }
std::string CheckpointStore::AdapterFile(const std::string& name) const { return JoinPath(PathOf(name), kAdapterModel); }

Json CheckpointStore::ManifestOf(const std::string& name) { return Json::parse(ReadFile(files_, JoinPath(PathOf(name), kManifest))); }

std::vector<std::string> CheckpointStore::FilesOf(const std::string& name) {
  return WithJson("checkpoint " + PathOf(name), [&] {
    std::vector<std::string> files;
    const Json manifest = ManifestOf(name);
    for (const Json& entry : manifest.at("files")) files.push_back(entry.at("name"));
    return files;
  });
}

std::optional<std::string> CheckpointStore::ReferenceModel(const std::string& name) {
  const std::vector<std::string> files = FilesOf(name);
  if (std::find(files.begin(), files.end(), kReferenceModel) == files.end()) return std::nullopt;
  return JoinPath(PathOf(name), kReference);
}

std::optional<uint64_t> CheckpointStore::WeightsOf(const std::string& name) {
  if (!files_.Exists(JoinPath(PathOf(name), kManifest)) || !Look(name).damage.empty()) return std::nullopt;
  return WithJson("checkpoint " + PathOf(name), [&] { return ParseHexU64(ManifestOf(name).at("weights").get<std::string>()); });
}

std::optional<CheckpointStore::Recorded> CheckpointStore::OptimizerBehind(const std::string& claim, uint64_t weights) {
  for (const std::string& name : Names()) {
    const std::string path = JoinPath(PathOf(name), kSteps);
    try {
      const std::string text = ReadFile(files_, path), digest = HexU64(Digest(text));
      const Json files = ManifestOf(name).at("files");
      const bool is_whole =
          std::any_of(files.begin(), files.end(), [&](const Json& file) { return file.at("name") == kSteps && file.at("digest") == digest; });
      if (!is_whole) continue;
      for (const Json& step : Json::parse(text)) {
        if (step.at("claim") != claim || step.at("weights") != HexU64(weights) || !step.contains(kOptimizerDigest)) continue;
        return Recorded{path, ParseHexU64(step.at(kOptimizerDigest).get<std::string>())};
      }
    } catch (const Error&) {  // not whole, or pruned meanwhile
    } catch (const Json::exception&) {
    }
  }
  return std::nullopt;
}

std::vector<std::string> CheckpointStore::Sidecars(const std::string& name) {
  std::vector<std::string> paths;
  for (const std::string& file : FilesOf(name)) {
    const bool own = file == kModel || file == kOptimizer || file == kSteps || file.starts_with(std::string(kReference) + "/") ||
                     file.starts_with(std::string(kAdapter) + "/");
    if (!own) paths.push_back(JoinPath(PathOf(name), file));
  }
  return paths;
}

void CheckpointStore::Prune() {
  int64_t num_whole = 0;
  for (const std::string& name : Names()) {
    const std::string path = PathOf(name), manifest_path = JoinPath(path, kManifest);
    try {
      if (files_.Exists(manifest_path) && ++num_whole <= keep_) continue;
      if (num_whole == 0) continue;                                    // newer than every whole one: not this store's to judge
      if (files_.Exists(manifest_path)) files_.Remove(manifest_path);  // first: a half-removed one must not look whole
      RemoveFiles(path);
      files_.Remove(path);
    } catch (const Error& error) {  // the new checkpoint is whole all the same
      log::WarnOnce("checkpoint " + name, "the old checkpoint " + path + " cannot be removed: " + error.message());
    }
  }
}

void CheckpointStore::Clear(const std::string& path) {
  try {
    RemoveFiles(path);
  } catch (const Error& error) {  // what the manifest does not list is not read
    log::Warn("what lies in " + path + " from before cannot be removed: " + error.message());
  }
}

void CheckpointStore::RemoveFiles(const std::string& path) {
  std::optional<Error> failure;  // the first; what stands behind it goes all the same, so that a disk does not fill
  for (const std::string& file : files_.List(path)) {
    try {
      if (file == kReference || file == kAdapter) RemoveFiles(JoinPath(path, file));
      files_.Remove(JoinPath(path, file));
    } catch (const Error& error) {
      if (!failure) failure = error;
    }
  }
  if (failure) throw *failure;
}

}  // namespace april::grpo
