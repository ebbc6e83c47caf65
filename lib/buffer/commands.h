// The subcommands of partial-buffer, without the parser: options, and what each does with them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/invocation.h"
#include "base/options.h"
#include "buffer/run_config.h"
#include "record/records.h"
#include "stream/endpoint.h"
#include "stream/reader.h"

namespace april::buffer {

/// -s DIR, or the address of the hub that serves it.
struct StoreOption {
  std::string store;
  bool take_over = false;
  int64_t peer_timeout_ms = 60'000;
  void Register(OptionsVisitor& options, bool hub_allowed, bool writes);
  bool IsHub() const { return store.starts_with("zmq+"); }
  stream::ReaderOptions Reading(int64_t sources = 1) const;
};

struct SamplingOptions {
  int64_t group_size = 8;
  int64_t max_tokens = 512;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  std::vector<std::string> stop;
  void Register(OptionsVisitor& options);
  record::Sampling Sampling() const;
};

struct InitOptions {
  StoreOption store;
  std::string model, run = "april", purpose = "train";
  SamplingOptions sampling;
  int64_t groups_per_step = 8, in_flight = 0, min_members = 2, run_ahead = 0, max_prompt_tokens = 0, retain_steps = 4;
  int64_t max_staleness = -1, max_resumes = -1;
  std::string admission = "first-finished", filter = "none";
  void Register(OptionsVisitor& options);
};
void RunInit(const InitOptions& options, Invocation& invocation);

struct AddOptions {
  StoreOption store;
  stream::Endpoints io;
  std::string prompts, model, purpose = "train", run = "eval";
  SamplingOptions sampling;
  int64_t epochs = 1, shuffle = -1, max_prompt_tokens = 0;
  bool plain = false, skip_bad = false;
  void Register(OptionsVisitor& options);
};
void RunAdd(const AddOptions& options, Invocation& invocation);

struct TakeOptions {
  StoreOption store;
  stream::Endpoints io;
  int64_t groups = 0, rollouts = 0;
  std::string worker, order = "partials-first";
  void Register(OptionsVisitor& options);
};
void RunTake(const TakeOptions& options, Invocation& invocation);

struct PutOptions {
  StoreOption store;
  stream::Endpoints io;
  int64_t max_rejects = 0;
  std::string durability = "sync";
  void Register(OptionsVisitor& options);
};
void RunPut(const PutOptions& options, Invocation& invocation);

struct ClaimOptions {
  StoreOption store;
  stream::Endpoints io;
  int64_t groups = 0, steps = 0, max_wait_ms = 3'600'000, replay = -1;
  bool follow = false;
  std::string checkpoints, filter;
  void Register(OptionsVisitor& options);
};
void RunClaim(const ClaimOptions& options, Invocation& invocation);

struct CommitOptions {
  StoreOption store;
  stream::Endpoints io;
  CommitOptions() { io.out = ""; }
  void Register(OptionsVisitor& options);
};
void RunCommit(const CommitOptions& options, Invocation& invocation);

struct AbandonOptions {
  StoreOption store;
  std::string claim;
  void Register(OptionsVisitor& options);
};
void RunAbandon(const AbandonOptions& options, Invocation& invocation);

struct RewindOptions {
  StoreOption store;
  std::string to;
  void Register(OptionsVisitor& options);
};
void RunRewind(const RewindOptions& options, Invocation& invocation);

struct DropOptions {
  StoreOption store;
  std::vector<std::string> groups;
  std::string reason;
  void Register(OptionsVisitor& options);
};
void RunDrop(const DropOptions& options, Invocation& invocation);

struct ServeOptions {
  StoreOption store;
  std::string bind, order = "partials-first";
  int64_t steps = 0, term_ms = 60'000, grace_ms = 120'000;
  std::string durability = "sync";
  void Register(OptionsVisitor& options);
};
void RunServe(const ServeOptions& options, Invocation& invocation);
/// RunServe on these files.
void Serve(const ServeOptions& options, Invocation& invocation, FileSystem& files);

struct CompactOptions {
  StoreOption store;
  void Register(OptionsVisitor& options);
};
void RunCompact(const CompactOptions& options, Invocation& invocation);

struct UpgradeOptions {
  std::string source, destination;
  void Register(OptionsVisitor& options);
};
void RunUpgrade(const UpgradeOptions& options, Invocation& invocation);

}  // namespace april::buffer
