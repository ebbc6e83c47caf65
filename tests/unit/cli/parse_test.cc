#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "cli/help.h"
#include "cli/parser.h"

using namespace april;

namespace {

struct Options {
  std::string store = "run";
  std::string order = "fifo", state;
  std::string uid;
  int64_t groups = 4;
  double temperature = 1;
  uint64_t memory = 0, cache = uint64_t{3} << 29;
  bool compress = true;
  std::vector<std::string> stops;

  void Register(OptionsVisitor& options) {
    options.Text("s,store", &store, "DIR", "the store");
    options.Choice("order", &order, {"fifo", "random"}, "the order");
    options.Choice("state", &state, {"", "queued", "leased"}, "which; all without it");
    options.Integer("groups", &groups, 1, 5000, "how many");
    options.Real("temperature", &temperature, 0, 100, "divides the logits");
    options.Bytes("memory", &memory, "limit");
    options.Bytes("cache", &cache, "room");
    options.Flag("compress", &compress, "write zstd");
    options.Texts("stop", &stops, "TEXT", "ends a response");
    options.Argument("UID", &uid, false, "which rollout");
  }
};

struct Result {
  Options options;
  cli::Parsed parsed;
  cli::OptionTable own, common;
};

Result ParseArguments(std::vector<std::string> arguments) {
  Result result;
  cli::Program program{"tool", "tests", "a test", {}};
  program.commands.push_back({"", "tests", "a test", [&](OptionsVisitor& visitor) { result.options.Register(visitor); }, [](cli::Context&) {}});
  cli::CommonOptions common;
  result.parsed = cli::Parse(program, arguments, &common, &result.own, &result.common);
  result.parsed.command = nullptr;  // points into this function's program
  return result;
}

Error UsageError(std::vector<std::string> arguments) {
  try {
    ParseArguments(std::move(arguments));
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kUsage);
    CHECK(!error.hint().empty());
    return error;
  }
  return Error::Usage("no error");
}

std::string UsageErrorOf(std::vector<std::string> arguments) { return UsageError(std::move(arguments)).message(); }

}  // namespace

TEST_CASE("options reach their variables, and the last one wins") {
  const Options options = ParseArguments({"-s", "a", "--groups", "2k", "--groups=3", "--memory", "1.5MiB", "--no-compress", "--temperature", "0.25",
                                          "--order", "random", "--stop", "x", "--stop", "y z", "12ab"})
                              .options;
  CHECK(options.store == "a");
  CHECK(options.groups == 3);
  CHECK(options.memory == 1572864);
  CHECK_FALSE(options.compress);
  CHECK(options.temperature == 0.25);
  CHECK(options.order == "random");
  CHECK(options.stops == std::vector<std::string>{"x", "y z"});
  CHECK(options.uid == "12ab");
}

TEST_CASE("defaults stay when nothing is given") {
  const Options options = ParseArguments({}).options;
  CHECK(options.store == "run");
  CHECK(options.groups == 4);
  CHECK(options.compress);
  CHECK(options.stops.empty());
}

TEST_CASE("a wrong value is a usage error that names option, seen and expected") {
  CHECK(UsageErrorOf({"--groups", "0"}) == "--groups: 0 is out of range, expected from 1 to 5000");
  CHECK(UsageErrorOf({"--groups", "many"}).find("\"many\"") != std::string::npos);
  CHECK(UsageErrorOf({"--groups", "1.0005k"}).find("not a whole number") != std::string::npos);
  CHECK(UsageErrorOf({"--temperature", "nan"}).find("out of range") != std::string::npos);
  CHECK(UsageErrorOf({"--temperature", "1x"}).find("not a number") != std::string::npos);
  CHECK(UsageErrorOf({"--memory", "12 potatoes"}).find("not a size") != std::string::npos);
  CHECK(UsageErrorOf({"--order", "best"}) == "--order: \"best\" is not one of fifo, random");
  CHECK(UsageErrorOf({"--state", "best"}) == "--state: \"best\" is not one of queued, leased");
  CHECK(UsageErrorOf({"--groups"}).find("--groups") != std::string::npos);
}

TEST_CASE("what is too much is named, the first of it, with the nearest name there is") {
  const auto hint = [](std::vector<std::string> arguments) { return UsageError(std::move(arguments)).hint(); };
  CHECK(UsageErrorOf({"--unknown", "x", "--other"}) == "unknown option --unknown");
  CHECK(hint({"--unknown"}) == "\"tool --help\" lists the options");
  CHECK(UsageErrorOf({"one", "two", "three"}) == "unexpected argument \"two\"");
  CHECK(UsageErrorOf({"--gruops=3"}) == "unknown option --gruops");
  CHECK(hint({"--gruops=3"}) == "did you mean --groups? \"tool --help\" lists the options");
  CHECK(hint({"--no-compres"}).find("did you mean --no-compress?") == 0);
  CHECK(hint({"--verison"}).find("did you mean --version?") == 0);
  CHECK(UsageErrorOf({"--mdoe", "--groups"}) == "unknown option --mdoe");
  CHECK(hint({"--" + std::string(100'000, 'g')}) == "\"tool --help\" lists the options");
}

TEST_CASE("options that exclude each other are refused when both were given, also with their defaults") {
  const cli::Context context("tool", {}, {}, {"in", "from"});
  CHECK_NOTHROW(context.Exclude("from", {"sources"}, ""));
  CHECK_NOTHROW(context.Exclude("prompt", {"in"}, ""));
  CHECK_THROWS_WITH(context.Exclude("from", {"sources", "in"}, ""), "--in does not go with --from");
}

TEST_CASE("a configuration file sets options, and a key that is none is refused by name") {
  char name[] = "/tmp/april-cli-XXXXXX";
  REQUIRE(::mkdtemp(name));
  const std::string path = std::string(name) + "/run.toml";
  const auto parse = [&](const std::string& text) {
    std::ofstream(path) << text;
    return UsageErrorOf({"--config", path});
  };
  std::ofstream(path) << "groups=7\nstop=[\"a\",\"b\"]\n";
  const Options options = ParseArguments({"--config", path}).options;
  CHECK(options.groups == 7);
  CHECK(ParseArguments({"--config", path, "--no-compress", "12"}).parsed.given == std::set<std::string>{"groups", "stop", "compress", "UID"});
  CHECK(options.stops == std::vector<std::string>{"a", "b"});
  std::ofstream(path) << ParseArguments({"--groups", "9", "--print-config"}).parsed.config_text;
  CHECK(ParseArguments({"--config", path}).options.groups == 9);
  CHECK(ParseArguments({"--config", path}).options.cache == uint64_t{3} << 29);
  CHECK(ParseArguments({"--config", path, "--order", "fifo"}).parsed.given == std::set<std::string>{"groups", "order"});
  CHECK(ParseArguments({"-s", ""}).parsed.given == std::set<std::string>{"store"});
  CHECK(parse("groups=7\ngruops=8\n") == path + ": no option is called \"gruops\"");
  CHECK(UsageError({"--config", path}).hint().find("did you mean groups?") == 0);
  CHECK(parse("[section]\ngroups=7\n").find(path) == 0);
  CHECK(parse("help=true\n").find(path) == 0);
  std::filesystem::remove_all(name);
}

TEST_CASE("help answers whatever else is wrong, and shows name, default and choices") {
  const Result result = ParseArguments({"--nonsense", "--help"});
  CHECK(result.parsed.outcome == cli::ParseOutcome::kHelp);
  const cli::Command command{"", "tests", "a test", {}, {}};
  const std::string text = cli::HelpText({"tool", "tests", "a test", {}}, command, result.own, result.common, 80);
  CHECK(text.find("-s, --store DIR") != std::string::npos);
  CHECK(text.find("(default 4)") != std::string::npos);
  CHECK(text.find("(default 1536MiB)") != std::string::npos);
  CHECK(text.find("[fifo|random]") != std::string::npos);
  CHECK(text.find("[queued|leased]") != std::string::npos);
  CHECK(text.find("--[no-]compress") != std::string::npos);
  CHECK(text.find("--seed") == std::string::npos);  // accepted, without effect here
  CHECK(text.find("--metrics") == std::string::npos);
  CHECK(text.find("--progress") == std::string::npos);
  const cli::Command drawing{"", "tests", "a test", {}, {}, {.seed = true}};
  CHECK(cli::HelpText({"tool", "tests", "a test", {}}, drawing, result.own, result.common, 80).find("--seed") != std::string::npos);
  size_t start = 0;
  const size_t end_of_tables = text.find("\nExit status");
  while (start < end_of_tables) {
    const size_t end = text.find('\n', start);
    CHECK(end - start <= 80);
    start = end + 1;
  }
}

TEST_CASE("help COMMAND is COMMAND --help, and help alone the overview") {
  cli::Program program{"tool", "tests", "a test", {}};
  for (const char* name : {"add", "take"}) program.commands.push_back({name, "tests", "a test", [](OptionsVisitor&) {}, [](cli::Context&) {}});
  const auto parse = [&](std::vector<std::string> arguments) {
    cli::CommonOptions common_options;
    cli::OptionTable own, common;
    return cli::Parse(program, arguments, &common_options, &own, &common);
  };
  const cli::Parsed parsed = parse({"help", "take"});
  CHECK(parsed.outcome == cli::ParseOutcome::kHelp);
  CHECK(parsed.command == &program.commands[1]);
  CHECK(parse({"help"}).outcome == cli::ParseOutcome::kHelp);
  CHECK(parse({"help"}).command == nullptr);
  CHECK_THROWS_WITH(parse({"help", "tkae"}), "unknown command \"tkae\"");
}

TEST_CASE("what an option does stands in one column, whatever characters its value's name has") {
  cli::OptionTable own;
  std::string columns, state;
  own.Text("columns", &columns, "A,B,…", "these");
  own.Text("state", &state, "STATE,…", "those");
  const cli::Program program{"tool", "tests", "a test", {}};
  const cli::Command command{"", "tests", "a test", {}, {}};
  const std::string help = cli::HelpText(program, command, own, {}, 100);
  CHECK(help.find("      --columns A,B,…       these\n") != std::string::npos);
  CHECK(help.find("      --state STATE,…       those\n") != std::string::npos);
}

TEST_CASE("a printed configuration has what an option that sets others makes of them") {
  Options options;
  cli::Program program{"tool", "tests", "a test", {}};
  program.commands.push_back({"", "tests", "a test", [&](OptionsVisitor& visitor) { options.Register(visitor); }, [](cli::Context&) {}});
  program.commands[0].resolve = [&](const cli::Given& given) {
    if (options.order == "random" && !given("groups")) options.groups = 99;
    if (options.order == "random" && !given("compress")) options.compress = false;
    options.order = "fifo";
  };
  const auto print = [&](std::vector<std::string> arguments) {
    options = {};
    cli::CommonOptions common;
    cli::OptionTable own, shared;
    arguments.push_back("--print-config");
    return cli::Parse(program, arguments, &common, &own, &shared).config_text;
  };
  const std::string all = print({"--order", "random", "--temperature", "0.123456789", "--stop", "a", "--stop", "b"});
  for (const char* line : {"order=\"fifo\"", "groups=99", "compress=false", "temperature=0.123456789", "stop=['a', 'b']"}) {
    CHECK_THAT(all, Catch::Contains(line));
  }
  const std::string given = print({"--order", "random", "--groups", "4", "--compress"});
  for (const char* line : {"order=\"fifo\"", "groups=4", "compress=true"}) CHECK_THAT(given, Catch::Contains(line));
}
