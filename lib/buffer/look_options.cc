// The flags of the subcommands that look, in the order of their help.
#include "buffer/look_commands.h"

namespace april::buffer {

void SelectOptions::Register(OptionsVisitor& options) {
  options.Section("Which ones");
  options.Text("state", &state, "STATE,…", "only those in one of these states");
  options.Texts(
      "where", &where, "COLUMN>VALUE",
      "only those for which this holds; again for more conditions, all of which must hold. Any column that `ls --columns help` lists, compared "
      "by = != < <= > >= or ~ (text contains): --where tokens>=2k --where staleness>1 --where age>10m --where worker=gen1; --where reward= "
      "(none)");
}

void LsOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  select.Register(options);
  options.Section("What to list");
  options.Flag("groups", &groups, "one line a group instead of a rollout");
  options.Text("columns", &columns, "A,B,…", "these columns, in this order; `help` lists them");
  options.Text("sort", &sort, "COLUMN",
               "by this column, largest number first: age, length, staleness, resumes, reward, …; default: the order of issue");
  options.Flag("reverse", &reverse, "the other way round");
  options.Integer("limit", &limit, 0, kNoUpperLimit, "at most so many lines; 0 = all");
  options.Flag("json", &json, "JSON lines: every column, unless some are named");
}

void ShowOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Argument("uid", &uid, true, "of a rollout or a group: 16 hexadecimal digits, or enough of the first ones; ls prints them");
  options.Text("model", &model, "PATH", "where the tokenizer is; default: the path that init was given");
  options.Choice("color", &color, {"auto", "always", "never"}, "colour tokens by the weights that made them; auto: on a terminal");
  options.Flag("json", &json, "what is known and the history, as one JSON object");
}

void StatOptions::Register(OptionsVisitor& options) {
  store.Register(options, true, false);
  options.Flag("json", &json, "every number, as one JSON object");
}

void GrepOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Argument("pattern", &pattern, true, "a regular expression (PCRE2), looked for in each line");
  options.Section("Where to look");
  options.Flag("prompts", &prompts, "in the prompts too");
  options.Flag("ignore-case", &ignore_case, "a and A are the same");
  options.Text("model", &model, "PATH", "where the tokenizer is; default: the path that init was given");
  select.Register(options);
  options.Section("What to print");
  options.Integer("context", &context, 0, 10'000, "so many lines before and after each that matches");
  options.Flag("count", &count, "only the number of lines that match");
  options.Flag("json", &json, "JSON lines: uid, group_id, state, in, line, text, match, before, after");
}

void ExportOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  select.Register(options);
  options.Section("Output");
  options.Text("o,out", &out, "FILE", "- is standard output; a file has its name once it is whole");
  options.Flag("stream", &stream,
               "the records as a stream instead of JSON lines, without their leases: what reward-score reads and put takes scores from");
  options.Flag("tokens", &tokens, "the arrays: token ids, log-probabilities, other per-token values; --no-tokens leaves them out");
  options.Flag("text", &text, "prompt and response as text; --no-text needs no tokenizer");
  options.Text("model", &model, "PATH", "where the tokenizer is; default: the path that init was given");
}

void AuditOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, false);
  options.Flag("json", &json, "the accounts and what is wrong, as one JSON object");
}

void VerifyCommandOptions::Register(OptionsVisitor& options) { store.Register(options, false, false); }

void RepairCommandOptions::Register(OptionsVisitor& options) {
  store.Register(options, false, true);
  options.Flag("dry-run", &dry_run, "say what would be done, change nothing; needs no lock");
}

}  // namespace april::buffer
