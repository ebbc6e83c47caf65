// weight-sync: move policy versions between models, directories and machines.
// Keeps version stores (formats/weights.md): directories of weights, each version whole or absent.
//   weight-sync publish --model MODEL --to run/weights
//   weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600 &  …  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow
#include "cli/main.h"
#include "text/export.h"
#include "weights/sync_commands.h"

using namespace april;

namespace {

void Publish(const weights::PublishCommand& options, Invocation& invocation) { weights::RunPublish(options, text::TokenizerFilesOf, invocation); }

}  // namespace

int main(int argc, char** argv) {
  cli::Program program{"weight-sync",
                       "move policy versions between models, directories and machines",
                       "A version store is a directory of policy versions, each a model directory that is whole or absent (formats/weights.md). "
                       "Trainers publish into it,\n"
                       "generators read from it; weight-sync fills one from a model, copies versions between machines and checks them.\n"
                       "\n"
                       "  weight-sync publish --model MODEL --to run/weights\n"
                       "  weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600\n"
                       "  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow",
                       {}};
  program.commands.push_back(cli::MakeCommand("publish", "import a model as a full version, in bf16",
                                              "Reads a model, writes a version with its configuration and tokenizer files, moves "
                                              "LATEST.\n\n  weight-sync publish --model smollm2.gguf --to run/weights --version 0",
                                              Publish, {.progress = true}));
  program.commands.push_back(
      cli::MakeCommand("fetch", "copy a version, or follow the latest one",
                       "Copies a version from a directory or a server. It becomes visible only when every digest has been checked; run "
                       "again, it goes on where it stopped.\n\n  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow",
                       weights::RunFetch, {.progress = true}));
  program.commands.push_back(
      cli::MakeCommand("serve", "offer a store's versions over ZeroMQ until stopped",
                       "Reads a version store and answers weight-sync fetch. A version that is removed while it is fetched ends that "
                       "fetch with an error.\n\n  weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600",
                       weights::RunServe, {.progress = true}));
  program.commands.push_back(cli::MakeCommand(
      "verify", "check every file's and tensor's digest",
      "Compares versions with their manifests and tells everything that is wrong; exit 3 when one is damaged.\n\n  weight-sync verify run/weights",
      weights::RunVerify));
  program.commands.push_back(cli::MakeCommand(
      "list", "one JSON line a version",
      "Writes number, digest, size of each version, and which one LATEST names, to stdout.\n\n  weight-sync list run/weights", weights::RunList));
  return cli::Main(program, argc, argv);
}
