#include "base/error.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace april {

Error::Error(ErrorKind kind, std::string message, std::string hint) : kind_(kind), message_(std::move(message)), hint_(std::move(hint)) {}

Error Error::System(std::string_view what, std::string_view subject, int error_number) {
  std::string message = std::string(what) + " " + std::string(subject) + ": " + std::strerror(error_number);
  Error error = Runtime(std::move(message));
  error.error_number_ = error_number;
  return error;
}

Error Error::DiskFull(std::string message, std::string hint) {
  Error error = Runtime(std::move(message), std::move(hint));
  error.error_number_ = ENOSPC;
  return error;
}

Error Error::Within(std::string_view context) const {
  Error error = *this;
  error.message_ = std::string(context) + ": " + message_;
  return error;
}

Error Error::WithHint(std::string hint) const {
  Error error = *this;
  error.hint_ = std::move(hint);
  return error;
}

bool IsDiskFull(const Error& error) { return error.error_number() == ENOSPC || error.error_number() == EDQUOT; }

}  // namespace april
