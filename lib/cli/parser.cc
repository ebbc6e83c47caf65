#include "cli/parser.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/error.h"

namespace april::cli {
namespace {

void RegisterCommon(CommonOptions* options, const CommonEffects& effects, OptionTable* table) {
  table->Section("Every tool");
  table->Integer("threads", &options->threads, 0, 4096, "threads; 0 = all CPUs that the process may use");
  table->Integer("seed", &options->seed, 0, kNoUpperLimit, effects.seed_help);
  table->Text("metrics", &options->metrics, "FILE", "append one JSON line a report to FILE");
  table->Choice("progress", &options->progress, {"auto", "plain", "never"}, "auto: a line on a terminal; plain: a line each 30 s");
  table->Flag("provenance", &options->provenance, "name this tool and its arguments in the stream's header");
}

/// Returns what CLI11 calls it. What gets another value than its default is noted in `given`.
const CLI::Option* AddRow(CLI::App* app, const OptionRow& row, std::set<std::string>* given) {
  CLI::Option* option = nullptr;
  if (row.is_flag) {
    const std::string names = (row.short_name.empty() ? "" : "-" + row.short_name + ",") + "--" + row.name + ",!--no-" + row.name;
    option = app->add_flag_function(
        names,
        [store = row.store, name = row.name, by_default = row.flag_default, given](int64_t count) {
          if ((count > 0) != by_default) given->insert(name);
          store({count > 0 ? "true" : "false"});
        },
        row.help);
    option->default_str(row.flag_default ? "true" : "false");
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    return option;
  }
  const std::string names = row.is_argument ? row.name : (row.short_name.empty() ? "" : "-" + row.short_name + ",") + "--" + row.name;
  option = app->add_option(
      names,
      [store = row.store, name = row.name, by_default = row.default_text, given](const CLI::results_t& texts) {
        if (texts.back() != by_default) given->insert(name);
        store(texts);
        return true;
      },
      row.help);
  option->type_size(1);
  if (row.repeated) {
    if (row.is_argument) option->expected(-1);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  } else {
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // the last one wins
  }
  if (!row.default_text.empty()) option->default_str(row.default_text);
  option->required(row.required);
  return option;
}

/// The rows' names by what CLI11 calls them.
using Names = std::map<const CLI::Option*, std::string>;

void AddTable(CLI::App* app, const OptionTable& table, std::set<std::string>* given, Names* names) {
  for (const OptionRow& row : table.rows()) (*names)[AddRow(app, row, given)] = row.name;
}

struct Switches {
  bool help = false, version = false, print_config = false, verbose = false, quiet = false;
};

void AddSwitches(CLI::App* app, Switches* switches, bool with_version) {
  app->set_help_flag();
  app->add_flag("-h,--help", switches->help)->configurable(false);
  if (with_version) app->add_flag("--version", switches->version)->configurable(false);
  app->add_flag("--print-config", switches->print_config)->configurable(false);
  app->add_flag("-v,--verbose", switches->verbose);
  app->add_flag("-q,--quiet", switches->quiet);
}

/// Only for --help: these five are parsed by AddSwitches.
void DocumentSwitches(OptionTable* table, bool with_version) {
  static bool unused = false;
  static std::string unused_text;
  table->Flag("v,verbose", &unused, "say more");
  table->Flag("q,quiet", &unused, "say only warnings and errors");
  table->Text("config", &unused_text, "FILE", "read options from FILE, as --print-config writes them");
  table->Flag("print-config", &unused, "print all options as a configuration file and exit");
  if (with_version) table->Flag("version", &unused, "print the version and exit");
  table->Flag("h,help", &unused, "print this and exit");
}

/// How many letters have to be added, removed, replaced or swapped with their neighbour (the optimal string alignment distance).
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const size_t replaced = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      cost[i][j] = std::min({replaced, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

/// "did you mean …? " with the name that at most a third of the letters tell from what was typed; empty without one.
std::string DidYouMean(const std::string& typed, const std::vector<std::string>& names, const std::string& in_front) {
  if (typed.size() > 60) return "";  // no name is nearly so long
  std::string hint;
  size_t distance = typed.size() / 3 + 1;
  for (const std::string& name : names) {
    const size_t found = Distance(typed, name);
    if (found < distance) hint = "did you mean " + in_front + name + "? ";
    distance = std::min(distance, found);
  }
  return hint;
}

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  return names;
}

/// Of what the arguments have too much. `hint` says where all options are listed.
Error Unexpected(const CLI::App& app, const std::string& argument, const std::string& hint) {
  if (!argument.starts_with('-')) return Error::Usage("unexpected argument \"" + argument + "\"", hint);
  const std::string option = argument.substr(0, argument.find('='));
  const size_t dashes = std::min(option.find_first_not_of('-'), option.size());
  return Error::Usage("unknown option " + option, DidYouMean(option.substr(dashes), OptionNames(app), "--") + hint);
}

/// Which subcommand the arguments name, so that only its options are registered.
/// "help COMMAND" is "COMMAND --help".
const Command* ChooseCommand(const Program& program, std::vector<std::string>* arguments) {
  if (program.commands.size() == 1 && program.commands[0].name.empty()) return &program.commands[0];
  if (arguments->empty()) throw Error::Usage("which command?", "\"" + program.name + " --help\" lists them");
  if (arguments->front() == "help") {
    arguments->erase(arguments->begin());
    arguments->push_back("--help");
  }
  const std::string& first = arguments->front();
  if (first == "-h" || first == "--help" || first == "--version") return nullptr;
  for (const Command& command : program.commands) {
    if (command.name == first) {
      arguments->erase(arguments->begin());
      return &command;
    }
  }
  std::vector<std::string> names;
  for (const Command& command : program.commands) names.push_back(command.name);
  throw Error::Usage("unknown command \"" + first + "\"", DidYouMean(first, names, "") + "\"" + program.name + " --help\" lists them");
}

/// Gives the options that the command resolves the values that they get.
void Resolve(CLI::App* app, const Command& command, const std::set<std::string>& given) {
  OptionTable before, after;  // what they call defaults are the values of their time
  command.register_options(before);
  command.resolve([&](const std::string& option) { return given.contains(option); });
  command.register_options(after);
  for (size_t i = 0; i < after.rows().size(); ++i) {
    const OptionRow &was = before.rows()[i], &is = after.rows()[i];
    if (was.default_text == is.default_text && was.flag_default == is.flag_default) continue;
    CLI::Option* option = app->get_option((is.is_argument ? "" : "--") + is.name);
    option->clear();
    option->add_result(is.is_flag ? (is.flag_default ? "true" : "false") : is.default_text);
  }
}

}  // namespace

Parsed Parse(const Program& program, const std::vector<std::string>& arguments, CommonOptions* common_options, OptionTable* own,
             OptionTable* common) {
  std::vector<std::string> rest = arguments;
  Parsed parsed;
  parsed.command = ChooseCommand(program, &rest);
  if (!parsed.command) {
    parsed.outcome = rest.front() == "--version" ? ParseOutcome::kVersion : ParseOutcome::kHelp;
    return parsed;
  }
  CLI::App app;
  Switches switches;
  const CLI::Option* config = app.set_config("--config");
  app.allow_config_extras(CLI::config_extras_mode::error);
  parsed.command->register_options(*own);
  // A command that works on policy versions may have its own --version N; PROGRAM --version still tells the program's.
  const bool with_version = std::none_of(own->rows().begin(), own->rows().end(), [](const OptionRow& row) { return row.name == "version"; });
  AddSwitches(&app, &switches, with_version);
  RegisterCommon(common_options, parsed.command->effects, common);
  Names names;
  AddTable(&app, *own, &parsed.given, &names);
  AddTable(&app, *common, &parsed.given, &names);
  const std::string hint = "\"" + program.NameOf(*parsed.command) + " --help\" lists the options";
  std::reverse(rest.begin(), rest.end());  // CLI11 takes its vector back to front
  try {
    // --help and --version answer whatever else is wrong or missing.
    for (const std::string& argument : rest) {
      if (argument == "--help" || argument == "-h") switches.help = true;
      if (with_version && argument == "--version") switches.version = true;
    }
    if (!switches.help && !switches.version) app.parse(rest);
  } catch (const CLI::ConfigError& error) {
    const std::string said = error.what(), unknown = CLI::ConfigError::Extras("").what();
    const std::string file = config->as<std::string>();
    if (said.starts_with(unknown)) {
      const std::string key = said.substr(unknown.size());
      throw Error::Usage(file + ": no option is called \"" + key + "\"", DidYouMean(key, OptionNames(app), "") + hint);
    }
    throw Error::Usage(file + ": " + said, hint);
  } catch (const CLI::ParseError& error) {
    if (const auto unexpected = app.remaining(); !unexpected.empty()) throw Unexpected(app, unexpected.front(), hint);
    throw Error::Usage(error.what(), hint);
  } catch (const Error& error) {
    throw Error::Usage(error.message(), error.hint().empty() ? hint : error.hint());
  }
  for (const CLI::Option* option : app.parse_order()) {  // those of the command line alone
    if (const auto found = names.find(option); found != names.end()) parsed.given.insert(found->second);
  }
  DocumentSwitches(common, with_version);
  parsed.verbose = switches.verbose;
  parsed.quiet = switches.quiet;
  if (switches.help) parsed.outcome = ParseOutcome::kHelp;
  if (switches.version) parsed.outcome = ParseOutcome::kVersion;
  if (switches.print_config) {
    parsed.outcome = ParseOutcome::kPrintConfig;
    if (parsed.command->resolve) Resolve(&app, *parsed.command, parsed.given);
    parsed.config_text = app.config_to_str(true, false);
  }
  return parsed;
}

}  // namespace april::cli
