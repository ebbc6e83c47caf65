#include "model/training_plan.h"

#include <algorithm>

#include "base/error.h"
#include "model/kv_cache.h"

namespace april::model {

void Tiles::Add(int64_t first_row, int64_t end_row) {
  for (; first_row < end_row; first_row += kernels::kGradientTile) {
    begin.push_back(first_row);
    rows.push_back(std::min(kernels::kGradientTile, end_row - first_row));
  }
}

Tiles Tiles::Part(int64_t first, int64_t count) const {
  Tiles part;
  for (int64_t i = first; i < first + count; ++i) {
    part.begin.push_back(begin[static_cast<size_t>(i)] - begin[static_cast<size_t>(first)]);
    part.rows.push_back(rows[static_cast<size_t>(i)]);
  }
  return part;
}

TrainingPlan::TrainingPlan(const Config& config, std::span<const TrainingGroup> training_groups) {
  for (const TrainingGroup& group : training_groups) {
    const auto first_row = static_cast<int64_t>(tokens.size());
    const int64_t first_target = num_targets();
    AddGroup(config, group);
    row_tiles.Add(first_row, static_cast<int64_t>(tokens.size()));
    target_tiles.Add(first_target, num_targets());
  }
  for (AttendedSpan& span : attended) span.addend_shift += num_rows();
  for (PromptSum& sum : prompt_sums) sum.first_shift += num_rows();
  std::stable_sort(attended.begin(), attended.end(), [](const AttendedSpan& a, const AttendedSpan& b) { return a.Work() > b.Work(); });
}

double AttendedSpan::Work() const {
  const auto own = static_cast<double>(spans[num_spans - 1].count), before = num_spans == 2 ? static_cast<double>(spans[0].count) : 0.0;
  return own * (before + own / 2);
}

/// Attention's backward of a group: each sequence by itself, then the prompt's gradients together.
void TrainingPlan::ShareOut(std::span<const kernels::RowSpan> responses, const kernels::RowSpan& prompt) {
  attended.push_back({{prompt, {}}, 1, 0});
  const int64_t first_shift = num_addend_rows - prompt.begin;
  int64_t num_addends = 0;
  for (const kernels::RowSpan& response : responses) {
    if (response.count == 0) continue;
    attended.push_back({{prompt, response}, 2, first_shift + num_addends++ * prompt.count});
  }
  num_addend_rows += num_addends * prompt.count;
  for (int64_t row = 0; row < prompt.count; row += kPromptSumRows)
    prompt_sums.push_back({{prompt.begin + row, std::min(kPromptSumRows, prompt.count - row)}, first_shift, num_addends, prompt.count});
}

void TrainingPlan::AddRows(const Config& config, std::span<const uint32_t> from, int64_t position) {
  for (const uint32_t token : from) {
    if (token >= config.vocab) {
      throw Error::Incompatible("token " + std::to_string(token) + " is not in the model's vocabulary of " + std::to_string(config.vocab));
    }
    tokens.push_back(token);
    positions.push_back(static_cast<int32_t>(position++));
  }
  max_positions = std::max(max_positions, position);
  max_queries = std::max(max_queries, static_cast<int64_t>(from.size()));
}

void TrainingPlan::AddGroup(const Config& config, const TrainingGroup& group) {
  if (group.prompt.empty()) throw Error::Data("a group has no prompt tokens");
  const auto prompt_length = static_cast<int64_t>(group.prompt.size());
  const int64_t whole = prompt_length / kernels::kKvBlock, tail = prompt_length % kernels::kKvBlock;
  const kernels::RowSpan prompt_rows{static_cast<int64_t>(tokens.size()), prompt_length};
  std::vector<kernels::RowSpan> response_rows;
  AddRows(config, group.prompt, 0);
  const auto new_table = [&](std::span<const int32_t> shared, int64_t length) {
    std::vector<int32_t>& table = block_tables_.emplace_back(shared.begin(), shared.end());
    while (static_cast<int64_t>(table.size()) < KvCache::BlocksFor(length)) table.push_back(static_cast<int32_t>(num_blocks++));
    return std::span<const int32_t>(table);
  };
  const std::span<const int32_t> prompt_table = new_table({}, prompt_length);
  const Span prompt{prompt_rows.begin, prompt_length, 0, prompt_table.data()};
  AppendCut(prompt, &stores);
  AppendCut(prompt, &reads);
  for (const std::span<const uint32_t> response : group.responses) {
    const auto length = std::max<int64_t>(0, static_cast<int64_t>(response.size()) - 1);
    const auto begin = static_cast<int64_t>(tokens.size());
    for (size_t i = 0; i < response.size(); ++i) {
      target_rows.push_back(i == 0 ? prompt_rows.begin + prompt_length - 1 : begin + static_cast<int64_t>(i) - 1);
      target_tokens.push_back(response[i]);
      if (response[i] >= config.vocab) AddRows(config, response.subspan(i, 1), 0);  // throws
    }
    response_rows.push_back({begin, length});
    if (length == 0) continue;
    AddRows(config, response.first(static_cast<size_t>(length)), prompt_length);
    const int32_t* table = new_table(prompt_table.first(static_cast<size_t>(whole)), prompt_length + length).data();
    // The prompt's partly filled block is each response's own: its first rows are stored there once more.
    if (tail > 0) stores.push_back({prompt_rows.begin + whole * kernels::kKvBlock, tail, whole * kernels::kKvBlock, table});
    const Span own{begin, length, prompt_length, table};
    AppendCut(own, &stores);
    AppendCut(own, &reads);
  }
  ShareOut(response_rows, prompt_rows);
}

}  // namespace april::model
