// Rollouts and groups as rows of columns: what ls, grep and export choose from, by which they filter, and what ls sorts and prints.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "buffer/look_commands.h"
#include "buffer/store.h"

namespace april::buffer {

using Cell = std::variant<std::monostate, bool, int64_t, double, std::string>;  ///< monostate: there is none

struct RolloutRow {
  Store& store;
  uint64_t key;
  const GroupMeta& group;
  const RolloutMeta& rollout;
};
struct GroupRow {
  Store& store;
  uint64_t admission;
  const GroupMeta& group;
};

/// One column; its name is also its key in JSON, and what --where, --sort and --columns call it.
template <typename Row>
struct Column {
  const char* name;
  const char* title;
  int width;  ///< of the table's cells; below 0: to the left
  const char* help;
  Cell (*cell)(const Row&);
};

const std::vector<Column<RolloutRow>>& RolloutColumns();
const std::vector<Column<GroupRow>>& GroupColumns();

/// "a, b" is a and b.
std::vector<std::string> SplitList(const std::string& list);

/// By its name, or the short form without unit: age for age_s, length for tokens. Throws Usage naming all.
template <typename Row>
const Column<Row>& FindColumn(const std::vector<Column<Row>>& columns, const std::string& name);

/// Which rows are meant: --state and --where, all of which must hold.
template <typename Row>
class Filter {
 public:
  /// Throws Usage on an unknown column, state, operator or value.
  Filter(const std::vector<Column<Row>>& columns, const SelectOptions& options);
  bool Holds(const Row& row) const;

 private:
  std::vector<std::function<bool(const Row&)>> conditions_;
};

/// For a terminal: durations in words, numbers with few digits.
template <typename Row>
std::string CellText(const Column<Row>& column, const Row& row);
template <typename Row>
Json CellJson(const Column<Row>& column, const Row& row);

/// Orders cells: numbers before text, none last. Negative, zero or positive, as the first comes before, with or behind the second.
int CompareCells(const Cell& a, const Cell& b);

/// Every rollout that is meant, in the order of issue.
void ForEachRollout(Store& store, const SelectOptions& options, const std::function<void(const RolloutRow&)>& visit);

std::string WorkerOf(const State& state, const RolloutMeta& rollout);

}  // namespace april::buffer
