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

/// A group's rows: its prompt, then each response but for its last token, whose row nothing needs.
struct GroupRows {
  kernels::RowSpan prompt;
  std::vector<kernels::RowSpan> responses;
};

struct TrainingPlan {
  TrainingPlan(const Config& config, std::span<const TrainingGroup> groups);

  Batch batch() const { return {static_cast<int64_t>(tokens.size()), tokens.data(), positions.data(), stores, reads}; }
  int64_t num_targets() const { return static_cast<int64_t>(target_tokens.size()); }

  std::vector<uint32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<Span> stores, reads;
  std::vector<GroupRows> groups;
  std::vector<int64_t> target_rows;     ///< of each response token, in output order: the row whose logits predict it
  std::vector<uint32_t> target_tokens;  ///< and the token
  Tiles row_tiles, target_tiles;
  int64_t num_blocks = 0, max_positions = 0, max_queries = 0;

 private:
  void AddGroup(const Config& config, const TrainingGroup& group);
  void AddRows(const Config& config, std::span<const uint32_t> from, int64_t position);

  std::deque<std::vector<int32_t>> block_tables_;
};

}  // namespace april::model
