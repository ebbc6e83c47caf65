// Text on stdout, where a failed write must never pass unseen.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace april {

/// Nobody reads the text on stdout any more (`… | head`): a program that only shows something ends with the exit code of a lost peer, without a
/// message. Streams of records are not printed by PrintOut: their writers end loudly.
class ReaderGone : public Error {
 public:
  ReaderGone();
};

/// Writes to stdout, through its buffer. Throws Runtime when it cannot (a full disk), ReaderGone when nobody reads it; either is told only once.
void PrintOut(std::string_view text);

/// Writes what the buffer holds. Throws as PrintOut, and also when an earlier write failed without anyone being told.
void FlushOut();

/// Valid UTF-8 that cannot move a terminal's cursor or change its state, whatever a model wrote: control characters but tab and line feed are U+FFFD.
std::string Printable(std::string_view text);

}  // namespace april
