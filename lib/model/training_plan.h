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
  std::vector<Tile> row_tiles, target_tiles;
  int64_t num_blocks = 0, max_positions = 0, max_queries = 0;

 private:
  void AddGroup(const Config& config, const TrainingGroup& group);
  void AddRows(const Config& config, std::span<const uint32_t> from, int64_t position);

  std::deque<std::vector<int32_t>> block_tables_;
};

}  // namespace april::model
