// The flags of the subcommands that look, in the order of their help.
#include "buffer/look_commands.h"

namespace april::buffer {

void LsOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Section("What to list");
  options.Choice("state", &state, {"", "queued", "leased", "partial", "complete", "scored", "failed"}, "only rollouts in this state");
  options.Flag("groups", &groups, "one line a group instead of a rollout");
  options.Flag("json", &json, "JSON lines");
}

void ShowOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Argument("uid", &uid, true, "16 hexadecimal digits, or enough of the first ones; ls prints them");
  options.Text("model", &model, "PATH", "where the tokenizer is; default: the path that init was given");
  options.Choice("color", &color, {"auto", "always", "never"}, "colour tokens by the weights that made them; auto: on a terminal");
  options.Flag("json", &json, "the journal's metadata as JSON");
}

void StatOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, false);
  options.Flag("json", &json, "every number, as one JSON object");
}

void AuditOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Flag("json", &json, "the accounts and what is wrong, as one JSON object");
}

}  // namespace april::buffer
