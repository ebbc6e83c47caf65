// How the ledger's complaints name things.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "buffer/ledger.h"

namespace april::buffer {

inline std::string Of(uint64_t uid) { return "rollout " + HexU64(uid) + ": "; }
inline std::string OfGroup(uint64_t id) { return "group " + HexU64(id) + ": "; }
inline std::string Number(int64_t number) { return std::to_string(number); }
inline std::string Describe(const Account& account) { return Number(account.rollouts) + " rollouts of " + Number(account.tokens) + " tokens"; }

}  // namespace april::buffer
