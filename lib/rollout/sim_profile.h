// What a simulated engine is like: times, memory, lengths. formats/profiles.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "rollout/sim_lengths.h"

namespace april::rollout {

/// Time of a decode step. The table holds unless it is empty.
struct StepTimes {
  double step_ms = 10;    ///< of any step
  double row_ms = 0.1;    ///< and for each decoding row
  double context_us = 0;  ///< and for each position that a row attends to

  std::vector<int64_t> rows{}, contexts{};      ///< of the table; both ascend
  std::vector<std::vector<double>> table_ms{};  ///< [rows][contexts]

  /// `rows` rows that attend to `positions` positions together.
  double Ms(double num_rows, double positions) const;
};

struct SimProfile {
  std::string name = "flat";
  std::vector<std::string> source;  ///< where the numbers come from
  StepTimes decode;
  double prefill_token_ms = 0.02;   ///< for each token read: prompts and resumed responses
  double prefill_position_ns = 0;   ///< and for each position before it
  int64_t engines = 1;              ///< in lockstep, the rollouts evenly spread; times and memory are those of one
  int64_t memory_positions = 0;     ///< whose keys and values one engine holds; 0 = no limit
  int64_t max_positions = 1 << 20;  ///< prompt and response together
  uint32_t vocab_size = 1000;       ///< token ids are drawn below it
  uint32_t stop_token = 2;          ///< ends a response of its drawn length
  LengthDistribution lengths;
};

/// `name`: a path (with a '/' or ending in .json), or a shipped profile. Throws Usage naming file and key, or the shipped profiles.
SimProfile LoadSimProfile(const std::string& name);
/// Throws Usage naming the key.
SimProfile SimProfileFromJson(const Json& json);
Json ToJson(const SimProfile& profile);
/// One line for each row of the table, so that a person can read it.
std::string ProfileText(const SimProfile& profile);

/// Name and text of each profile that is part of the program.
struct ShippedProfile {
  const char* name;
  const char* text;
};
extern const std::vector<ShippedProfile> kShippedProfiles;

}  // namespace april::rollout
