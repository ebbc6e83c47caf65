// The frame of every program: parse, run, report, exit. The only place that catches errors and maps them to exit codes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/invocation.h"
#include "base/json.h"
#include "base/options.h"
#include "cli/progress.h"

namespace april::cli {

/// Options that every tool has.
struct CommonOptions {
  int64_t seed = 0;
  int64_t threads = 0;            ///< 0 = all CPUs that the process may use
  std::string metrics;            ///< file of JSON lines, "" = none
  std::string progress = "auto";  ///< auto, plain, never
  bool provenance = true;         ///< a tool that writes a stream adds an entry to its header
};

/// What a tool's Run gets besides its options.
class Context {
 public:
  Context(std::string tool, CommonOptions common, std::vector<std::string> argv, std::set<std::string> given);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const std::string& tool() const { return tool_; }
  const CommonOptions& common() const { return common_; }
  /// Whether an option (its long name) was given: on the command line, be it with its default, or in --config with another value than its default
  /// (--print-config writes all of them).
  bool Given(const std::string& option) const { return given_.contains(option); }
  /// Throws Usage when `option` and one of the `others` were given: "--in does not go with --from".
  void Exclude(const std::string& option, const std::vector<std::string>& others, const std::string& hint) const;

  /// The command line as valid UTF-8, for a stream's provenance.
  const std::vector<std::string>& argv() const { return argv_; }

  /// The one summary line, printed at the end also when the run failed: "read 4096, wrote 4080, …". Counts must add up.
  void Summary(std::string line) { summary_ = std::move(line); }
  const std::string& summary() const { return summary_; }

  /// Appends one JSON line to --metrics (flushed); does nothing without it.
  void Metrics(const Json& values);

  Progress& progress() { return *progress_; }

  /// The exit code of a run that did not throw: 0, or e.g. ErrorKind::kStopped. A non-zero code is reported with the summary, not as an error.
  void ExitWith(int code) { exit_code_ = code; }
  int exit_code() const { return exit_code_; }

 private:
  struct MetricsFile;
  std::string tool_;
  CommonOptions common_;
  std::vector<std::string> argv_;
  std::set<std::string> given_;
  std::string summary_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<Progress> progress_;
  int exit_code_ = 0;
};

/// Which of the options that every tool accepts do something here. The others are accepted too, so that a script can give all stages the same, but
/// --help does not show them.
struct CommonEffects {
  bool threads = false, seed = false;
  const char* seed_help = "seed of what this tool itself draws; rollouts carry their own";  ///< in --help
  bool provenance = false;                                                                  ///< writes a stream
  bool metrics = false, progress = false;
};

/// Whether an option (its long name) was given: see Context::Given.
using Given = std::function<bool(const std::string& option)>;

/// One program, or one subcommand of it.
struct Command {
  std::string name;         ///< empty for a program without subcommands
  std::string summary;      ///< one line
  std::string description;  ///< what it reads, writes and keeps, with a pipeline example; shown by --help
  std::function<void(OptionsVisitor&)> register_options;
  std::function<void(Context&)> run;
  CommonEffects effects = {};
  /// For --print-config, when what is not given depends on what is: sets every option to the value that it has, and what decides that to nothing.
  std::function<void(const Given& given)> resolve = {};
};

struct Program {
  std::string name;
  std::string summary;
  std::string description;
  std::vector<Command> commands;

  /// "partial-buffer add"; of a program without subcommands its own name.
  std::string NameOf(const Command& command) const { return command.name.empty() ? name : name + " " + command.name; }
};

/// Parses without side effects, installs the signal handlers, runs, closes stdout checking the result, prints the summary, returns the exit code.
int Main(const Program& program, int argc, char** argv);

/// A program without subcommands. Options has `void Register(OptionsVisitor&)`. `resolve` as Command's.
template <typename Options>
int Main(std::string name, std::string summary, std::string description, int argc, char** argv, void (*run)(const Options&, Context&),
         CommonEffects effects = {}, void (*resolve)(Options&, const Given& given) = nullptr) {
  auto options = std::make_shared<Options>();
  Program program{std::move(name), std::move(summary), std::move(description), {}};
  program.commands.push_back({"", program.summary, program.description, [options](OptionsVisitor& visitor) { options->Register(visitor); },
                              [options, run](Context& context) { run(*options, context); }, effects});
  if (resolve != nullptr) program.commands[0].resolve = [options, resolve](const Given& given) { resolve(*options, given); };
  return Main(program, argc, argv);
}

/// Runs a module's command in a program: its summary, counts and exit code become the program's, also when it throws.
void Invoke(Context& context, const std::function<void(Invocation&)>& run);

/// A subcommand with its own Options, whose work is in a module.
template <typename Options>
Command MakeCommand(std::string name, std::string summary, std::string description, void (*run)(const Options&, Invocation&),
                    CommonEffects effects = {}) {
  auto options = std::make_shared<Options>();
  return {std::move(name),
          std::move(summary),
          std::move(description),
          [options](OptionsVisitor& visitor) { options->Register(visitor); },
          [options, run](Context& context) { Invoke(context, [&](Invocation& invocation) { run(*options, invocation); }); },
          effects};
}

/// "0.1.0"
const char* VersionText();

}  // namespace april::cli
