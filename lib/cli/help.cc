#include "cli/help.h"

#include <algorithm>
#include <sstream>
#include <string_view>

namespace april::cli {
namespace {

constexpr size_t kHelpColumn = 28;

/// Lines that follow each other are one paragraph, wrapped afresh; empty lines and indented ones (examples) stay as they are.
std::string Paragraphs(const std::string& text) {
  std::string joined;
  bool in_paragraph = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const bool plain = !line.empty() && line[0] != ' ';
    if (!joined.empty()) joined += plain && in_paragraph ? ' ' : '\n';
    joined += line;
    in_paragraph = plain;
  }
  return joined;
}

/// Columns on a terminal, of text whose characters have one each: the continuation bytes of UTF-8 have none.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// Breaks `text` at spaces so that no line is longer than `width`; keeps the text's own line ends.
void AppendWrapped(const std::string& text, size_t indent, size_t first_column, size_t width, std::string* out) {
  std::istringstream lines(text);
  std::string line;
  size_t column = first_column;
  bool first_line = true;
  while (std::getline(lines, line)) {
    if (!first_line) {
      *out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    first_line = false;
    const bool verbatim = !line.empty() && line[0] == ' ';  // an example: copied as it is
    std::istringstream words(line);
    std::string word;
    bool first_word = true;
    while (!verbatim && words >> word) {
      if (!first_word && column + 1 + Width(word) > width) {
        *out += "\n" + std::string(indent, ' ');
        column = indent;
        first_word = true;
      }
      *out += (first_word ? "" : " ") + word;
      column += Width(word) + (first_word ? 0 : 1);
      first_word = false;
    }
    if (verbatim) *out += line;
  }
  *out += "\n";
}

std::string Spelling(const OptionRow& row) {
  if (row.is_argument) return "  " + row.name + (row.repeated ? "..." : "");
  std::string text = row.short_name.empty() ? "      --" : "  -" + row.short_name + ", --";
  if (row.is_flag && row.flag_default) text += "[no-]";
  text += row.name;
  if (!row.value_name.empty()) text += " " + row.value_name;
  return text;
}

std::string HelpOf(const OptionRow& row) {
  std::string text = row.help;
  if (!row.choices.empty()) {
    text += " [";
    for (size_t i = 0; i < row.choices.size(); ++i) text += (i ? "|" : "") + row.choices[i];
    text += "]";
  }
  if (!row.is_flag && !row.default_text.empty()) text += " (default " + row.default_text + ")";
  if (row.is_flag && row.flag_default) text += " (default on)";
  if (row.repeated && !row.is_argument) text += " (may be given again)";
  return text;
}

bool HasEffect(const CommonEffects& effects, const std::string& name) {
  if (name == "threads") return effects.threads;
  if (name == "seed") return effects.seed;
  if (name == "metrics") return effects.metrics;
  if (name == "progress") return effects.progress;
  return name != "provenance" || effects.provenance;
}

void AppendRows(const OptionTable& table, const CommonEffects& effects, size_t width, const std::string& default_section, std::string* out) {
  std::string section = "\n";  // no section has this name
  for (const OptionRow& row : table.rows()) {
    if (!HasEffect(effects, row.name)) continue;
    if (row.section != section) {
      section = row.section;
      *out += "\n" + (section.empty() ? default_section : section) + ":\n";
    }
    std::string spelling = Spelling(row);
    if (Width(spelling) + 2 > kHelpColumn) {
      *out += spelling + "\n" + std::string(kHelpColumn, ' ');
    } else {
      *out += spelling + std::string(kHelpColumn - Width(spelling), ' ');
    }
    AppendWrapped(HelpOf(row), kHelpColumn, kHelpColumn, width, out);
  }
}

}  // namespace

std::string HelpText(const Program& program, const Command& command, const OptionTable& own, const OptionTable& common, size_t width) {
  const std::string full_name = program.NameOf(command);
  std::string out = full_name + ": ";
  AppendWrapped(command.summary, 0, out.size(), width, &out);
  out += "\nUsage: " + full_name + " [options]";
  for (const OptionRow& row : own.rows()) {
    if (!row.is_argument) continue;
    const std::string name = row.name + (row.repeated ? "..." : "");
    out += row.required ? " " + name : " [" + name + "]";
  }
  out += "\n\n";
  AppendWrapped(Paragraphs(command.description), 0, 0, width, &out);
  AppendRows(own, {.threads = true, .seed = true, .provenance = true, .metrics = true, .progress = true}, width, "Options", &out);
  AppendRows(common, command.effects, width, "Every tool", &out);
  out +=
      "\nExit status: 0 done, 1 runtime error, 2 usage, 3 corrupt or truncated data, 4 incompatible version, tokenizer or model,\n"
      "5 too many rejects, 6 peer lost or pipe closed, 7 not enough ready yet, 75 stopped early with state saved (run again to go on).\n";
  return out;
}

std::string OverviewText(const Program& program, size_t width) {
  std::string out = program.name + ": ";
  AppendWrapped(program.summary, 0, out.size(), width, &out);
  out += "\nUsage: " + program.name + " COMMAND [options]\n\n";
  AppendWrapped(Paragraphs(program.description), 0, 0, width, &out);
  out += "\nCommands:\n";
  for (const Command& command : program.commands) {
    std::string name = "  " + command.name;
    name.resize(std::max<size_t>(14, name.size() + 2), ' ');
    out += name;
    AppendWrapped(command.summary, 14, 14, width, &out);
  }
  out += "\n\"" + program.name + " help COMMAND\" (or COMMAND --help) tells more.\n";
  return out;
}

}  // namespace april::cli
