// The subcommands of weight-sync, without the parser: options, and what each does with them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/invocation.h"
#include "base/options.h"
#include "weights/version_store.h"

namespace april::weights {

/// Of commands that write into a version store.
struct StoreOptions {
  std::string to;
  PublishOptions publish;
  void Register(OptionsVisitor& options);
  /// `publish`, showing MB and MB/s while bytes move. Throws Usage without --to.
  PublishOptions Watched(const Invocation& invocation) const;
};

struct PublishCommand : StoreOptions {
  std::string model;
  int64_t version = -1;
  void Register(OptionsVisitor& options);
};
/// The tokenizer's files of the model at `path`; those that have to be made first are put into `directory`.
using TokenizerFiles = std::function<std::vector<std::string>(const std::string& path, const std::string& directory)>;
void RunPublish(const PublishCommand& options, const TokenizerFiles& tokenizer_files, Invocation& invocation);

struct FetchCommand : StoreOptions {
  std::string from, version = "latest";
  bool follow = false;
  int64_t poll_ms = 200, peer_timeout_ms = 60'000;
  void Register(OptionsVisitor& options);
};
void RunFetch(const FetchCommand& options, Invocation& invocation);

struct ServeCommand {
  std::string dir, bind;
  void Register(OptionsVisitor& options);
};
void RunServe(const ServeCommand& options, Invocation& invocation);

struct StoreCommand {
  std::string dir;
  int64_t version = -1;
  void Register(OptionsVisitor& options);
};
void RunVerify(const StoreCommand& options, Invocation& invocation);
void RunList(const StoreCommand& options, Invocation& invocation);

/// What the commands share.
void Need(const std::string& value, const char* option);  ///< throws Usage when the option was not given
void CheckStore(const std::string& directory);            ///< throws Runtime when there is none
std::string Described(const Manifest& manifest);          ///< "version 3 (30 tensors, 269 MB, weights 0123456789abcdef)"

}  // namespace april::weights
