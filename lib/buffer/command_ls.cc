// ls: rollouts or groups, one line each.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/listing.h"

namespace april::buffer {
namespace {

template <typename Row>
using Chosen = std::vector<const Column<Row>*>;

template <typename Row>
Chosen<Row> ChooseColumns(const std::vector<Column<Row>>& columns, const std::string& names, const char* usual) {
  Chosen<Row> chosen;
  for (const std::string& name : SplitList(names.empty() ? usual : names)) chosen.push_back(&FindColumn(columns, name));
  return chosen;
}

/// What JSON has unless columns are named.
template <typename Row>
Chosen<Row> AllColumns(const std::vector<Column<Row>>& columns) {
  Chosen<Row> chosen;
  for (const auto& column : columns) chosen.push_back(&column);
  return chosen;
}

std::string Padded(const std::string& text, int width, bool last) {
  const auto wanted = static_cast<size_t>(width < 0 ? -width : width);
  const std::string fill(wanted > text.size() ? wanted - text.size() : 0, ' ');
  return width < 0 ? text + (last ? "" : fill) : fill + text;
}

template <typename Row>
void PrintRow(const Chosen<Row>& columns, bool json, const Row& row) {
  if (json) {
    Json line = Json::object();
    for (const auto* column : columns) line[column->name] = CellJson(*column, row);
    return PrintOut(line.dump() + "\n");
  }
  std::string line;
  for (const auto* column : columns)
    line += (line.empty() ? "" : "  ") + Padded(Printable(CellText(*column, row)), column->width, column == columns.back());
  line.erase(line.find_last_not_of(' ') + 1);
  PrintOut(line + "\n");
}

template <typename Row>
void PrintTitles(const Chosen<Row>& columns) {
  std::string line;
  for (const auto* column : columns) line += (line.empty() ? "" : "  ") + Padded(column->title, column->width, column == columns.back());
  PrintOut(line + "\n");
}

template <typename Row>
void PrintHelp(const std::vector<Column<Row>>& columns) {
  for (const auto& column : columns) {
    char line[160];
    std::snprintf(line, sizeof line, "%-15s %s\n", column.name, column.help);
    PrintOut(line);
  }
}

/// Prints as it goes, unless the rows have to be put in order first.
template <typename Row, typename Visit>
void List(const std::vector<Column<Row>>& all, const LsOptions& options, const char* usual, const Visit& for_each_row) {
  const bool all_of_them = options.json && options.columns.empty();
  const Chosen<Row> columns = all_of_them ? AllColumns(all) : ChooseColumns(all, options.columns, usual);
  const Column<Row>* sort = options.sort.empty() ? nullptr : &FindColumn(all, options.sort);
  const Filter<Row> filter(all, options.select);
  if (!options.json) PrintTitles(columns);
  std::vector<std::pair<Cell, Row>> rows;
  int64_t left = options.limit == 0 ? INT64_MAX : options.limit;
  for_each_row([&](const Row& row) {
    if (!filter.Holds(row)) return left > 0;
    if (sort || options.reverse) {
      rows.emplace_back(sort ? sort->cell(row) : Cell(), row);
    } else if (left > 0) {
      PrintRow(columns, options.json, row);
      --left;
    }
    return left > 0;
  });
  // Numbers: the largest first, which is what one looks for; text by its letters. Rows that have none come last either way.
  std::vector<size_t> order(rows.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (!sort) std::reverse(order.begin(), order.end());
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    const Cell &a = rows[i].first, &b = rows[j].first;
    const bool none_a = std::holds_alternative<std::monostate>(a), none_b = std::holds_alternative<std::monostate>(b);
    if (none_a || none_b) return !none_a && none_b;
    const int compared = CompareCells(a, b);
    const bool smallest_first = std::holds_alternative<std::string>(a) != options.reverse;
    return smallest_first ? compared < 0 : compared > 0;
  });
  for (const size_t i : order) {
    if (left-- <= 0) break;
    PrintRow(columns, options.json, rows[i].second);
  }
}

}  // namespace

void RunLs(const LsOptions& options, Invocation&) {
  if (options.columns == "help") return options.groups ? PrintHelp(GroupColumns()) : PrintHelp(RolloutColumns());
  Store store(SystemFiles(), SystemClock(), options.store.store);
  const auto& groups = store.state().groups();
  if (options.groups) {
    List<GroupRow>(GroupColumns(), options, "group_id,state,prompt,epoch,members,ended,scored,admitted_step,opened_s", [&](const auto& visit) {
      for (const auto& [admission, group] : groups) {
        if (!visit(GroupRow{store, admission, group})) return;
      }
    });
    return;
  }
  const char* usual = "uid,group_id,index,state,group_state,tokens,versions,resumes,reward,changed_s,worker";
  List<RolloutRow>(RolloutColumns(), options, usual, [&](const auto& visit) {
    for (const auto& [admission, group] : groups) {
      for (size_t i = 0; i < group.members.size(); ++i) {
        if (!visit(RolloutRow{store, MakeKey(admission, i), group, group.members[i]})) return;
      }
    }
  });
}

}  // namespace april::buffer
