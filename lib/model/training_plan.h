// Where the tokens of a micro-batch's groups lie: rows, blocks of keys and values, tiles. Private to the model.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "model/layer_pass.h"
#include "model/training.h"

namespace april::model {

/// A gradient tile: at most kGradientTile consecutive rows of one group.
struct Tile {
  int64_t row = 0, rows = 0;
};

/// Tiles one after another.
struct Tiles {
  std::vector<int64_t> begin, rows;  ///< of each tile

  int64_t count() const { return static_cast<int64_t>(begin.size()); }
  Tile operator[](int64_t tile) const { return {begin[static_cast<size_t>(tile)], rows[static_cast<size_t>(tile)]}; }
  int64_t total_rows() const { return begin.empty() ? 0 : begin.back() + rows.back() - begin.front(); }
  void Add(int64_t first_row, int64_t end_row);
  /// Tiles [first, first + count), whose rows are counted from the first of them.
  Tiles Part(int64_t first, int64_t count) const;
};

// Gradients of keys and values lie in rows as the tokens do; behind them, for each response, those of its prompt's rows once more: its addend to
// them.

/// One sequence's queries in attention's backward: a group's prompt, or one of its responses behind it.
struct AttendedSpan {
  kernels::RowSpan spans[2];
  int64_t num_spans = 1;
  int64_t addend_shift = 0;  ///< of a response: from its prompt's rows to its addend

  double Work() const;  ///< about how long it takes, in any unit
};

/// At most kPromptSumRows rows of a prompt, and where the addends of its responses lie: one behind the other, each as long as the prompt.
struct PromptSum {
  kernels::RowSpan rows;
  int64_t first_shift = 0;  ///< from these rows to the first response's addend
  int64_t num_addends = 0, addend_rows = 0;
};
inline constexpr int64_t kPromptSumRows = 32;

struct TrainingPlan {
  TrainingPlan(const Config& config, std::span<const TrainingGroup> groups);

  Batch batch() const { return {num_rows(), tokens.data(), positions.data(), stores, reads}; }
  int64_t num_rows() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_targets() const { return static_cast<int64_t>(target_tokens.size()); }

  std::vector<uint32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<Span> stores, reads;
  std::vector<AttendedSpan> attended;  ///< the longest work first, so that threads end together
  std::vector<PromptSum> prompt_sums;
  int64_t num_addend_rows = 0;
  std::vector<int64_t> target_rows;     ///< of each response token, in output order: the row whose logits predict it
  std::vector<uint32_t> target_tokens;  ///< and the token
  Tiles row_tiles, target_tiles;
  int64_t num_blocks = 0, max_positions = 0, max_queries = 0;

 private:
  void AddGroup(const Config& config, const TrainingGroup& group);
  void ShareOut(std::span<const kernels::RowSpan> responses, const kernels::RowSpan& prompt);
  void AddRows(const Config& config, std::span<const uint32_t> from, int64_t position);

  std::deque<std::vector<int32_t>> block_tables_;
};

}  // namespace april::model
