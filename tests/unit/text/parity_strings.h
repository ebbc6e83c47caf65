// The strings of the tokenizer parity tests.
#pragma once

#include <cstdint>
#include <string>

namespace april {

/// String number `index` of tests/parity/tokenizer_strings.py.
std::string ParityString(uint64_t index);

}  // namespace april
