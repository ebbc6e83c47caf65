#include "cli/main.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/printing.h"
#include "base/signals.h"
#include "base/utf8.h"
#include "cli/help.h"
#include "cli/parser.h"

namespace april::cli {
namespace {

Progress::Mode ProgressMode(const std::string& choice) {
  if (choice == "plain") return Progress::Mode::kPlain;
  return choice == "auto" && ::isatty(STDERR_FILENO) ? Progress::Mode::kTerminal : Progress::Mode::kNever;
}

void PrintText(const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data() + written, text.size() - written);
    if (count < 0) throw Error::System("cannot write", "standard output", errno);
    written += static_cast<size_t>(count);
  }
}

size_t HelpWidth() {
  winsize size = {};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return std::clamp<size_t>(known ? size.ws_col : 100, 60, 120);
}

std::string VersionPage(const std::string& tool) {
  std::string text = tool + " " + VersionText() + "\nstream format 1.0, built with " +
#ifdef __clang__
                     "clang "
#else
                     "g++ "
#endif
                     __VERSION__ "\n";
  return text;
}

/// A full disk may show only when the file is closed: a program that ignored it would have lost data and said "done".
void CloseStdout() {
  FlushOut();
  if (::close(STDOUT_FILENO) != 0 && errno != EBADF) throw Error::System("cannot close", "standard output", errno);
}

/// What lines on stderr begin with: several commands of one program may run side by side.
std::string LinePrefix(const Program& program, const std::vector<std::string>& argv) {
  for (const Command& command : program.commands) {
    if (argv.size() > 1 && command.name == argv[1]) return program.NameOf(command);
  }
  return program.name;
}

/// What is missing to a user whom the system refused.
std::string PermissionHint(const Error& error) {
  if (error.error_number() == EROFS) return "that file system is mounted read-only";
  if (error.error_number() != EACCES && error.error_number() != EPERM) return "";
  return "this user may not do that: ls -ld of it and of its folder says who may";
}

int RunCommand(const Program& program, const Parsed& parsed, const CommonOptions& common, const std::vector<std::string>& argv) {
  const double start_s = SystemClock().MonotonicSeconds();
  Context context(program.name, common, argv, parsed.given);
  const auto finish = [&] {
    context.progress().Erase();
    log::FlushRepeated();
    if (!context.summary().empty()) log::Info(context.summary() + "; " + HumanSeconds(SystemClock().MonotonicSeconds() - start_s));
  };
  try {
    parsed.command->run(context);
    CloseStdout();
  } catch (const ReaderGone&) {
    context.progress().Erase();  // who looks no further needs no summary of what was shown
    throw;
  } catch (...) {
    finish();
    throw;
  }
  finish();
  return context.exit_code();
}

int RunProgram(const Program& program, const std::vector<std::string>& argv) {
  CommonOptions common_options;
  OptionTable own, common;
  const Parsed parsed = Parse(program, {argv.begin() + 1, argv.end()}, &common_options, &own, &common);
  switch (parsed.outcome) {
    case ParseOutcome::kHelp:
      PrintText(parsed.command ? HelpText(program, *parsed.command, own, common, HelpWidth()) : OverviewText(program, HelpWidth()));
      return 0;
    case ParseOutcome::kVersion:
      PrintText(VersionPage(program.name));
      return 0;
    case ParseOutcome::kPrintConfig:
      PrintText(parsed.config_text);
      return 0;
    case ParseOutcome::kRun:
      break;
  }
  log::Configure(program.NameOf(*parsed.command), parsed.quiet ? log::Level::kQuiet : parsed.verbose ? log::Level::kVerbose : log::Level::kNormal);
  InstallSignalHandlers();
  return RunCommand(program, parsed, common_options, argv);
}

}  // namespace

struct Context::MetricsFile {
  std::unique_ptr<WritableFile> file;
};

Context::Context(std::string tool, CommonOptions common, std::vector<std::string> argv, std::set<std::string> given)
    : tool_(std::move(tool)), common_(std::move(common)), argv_(std::move(argv)), given_(std::move(given)), metrics_(new MetricsFile) {
  for (std::string& word : argv_) word = ReplaceInvalidUtf8(word);  // file names may be anything, text in streams and metrics may not
  if (!common_.metrics.empty()) metrics_->file = SystemFiles().OpenForAppend(common_.metrics);
  progress_ = std::make_unique<Progress>(ProgressMode(common_.progress));
}

Context::~Context() = default;

void Context::Exclude(const std::string& option, const std::vector<std::string>& others, const std::string& hint) const {
  if (!Given(option)) return;
  for (const std::string& other : others) {
    if (Given(other)) throw Error::Usage("--" + other + " does not go with --" + option, hint);
  }
}

void Context::Metrics(const Json& values) {
  if (metrics_->file) metrics_->file->Append(values.dump() + "\n");
}

void Invoke(Context& context, const std::function<void(Invocation&)>& run) {
  Invocation invocation;
  invocation.tool = context.tool();
  invocation.version = VersionText();
  invocation.argv = context.argv();
  invocation.provenance = context.common().provenance;
  invocation.seed = static_cast<uint64_t>(context.common().seed);
  invocation.given = [&context](const std::string& option) { return context.Given(option); };
  invocation.metrics = [&context](const Json& values) { context.Metrics(values); };
  invocation.progress_due = [&context] { return context.progress().Due(); };
  invocation.progress = [&context](double done, double total, const std::string& text) { context.progress().Update(done, total, text); };
  const auto report = [&] {
    context.Summary(invocation.summary);
    if (!invocation.counts.is_null()) context.Metrics(invocation.counts);
  };
  try {
    run(invocation);
  } catch (...) {
    report();
    throw;
  }
  report();
  context.ExitWith(invocation.exit_code);
}

int Main(const Program& program, int argc, char** argv) {
  const std::vector<std::string> arguments(argv, argv + argc);
  log::Configure(LinePrefix(program, arguments), log::Level::kNormal);
  try {
    return RunProgram(program, arguments);
  } catch (const ReaderGone& error) {
    return static_cast<int>(error.kind());
  } catch (const Error& error) {
    log::Failure(error.message(), error.hint().empty() ? PermissionHint(error) : error.hint());
    return static_cast<int>(error.kind());
  } catch (const std::bad_alloc&) {
    log::Failure("out of memory", "");
  } catch (const std::exception& error) {
    log::Failure(std::string("internal error: ") + error.what(), "please report this with the command that led to it");
  }
  return static_cast<int>(ErrorKind::kRuntime);
}

const char* VersionText() { return APRIL_VERSION; }

}  // namespace april::cli
