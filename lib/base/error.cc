#include "base/error.h"

#include <cstring>

namespace april {

Error::Error(ErrorKind kind, std::string message, std::string hint) : kind_(kind), message_(std::move(message)), hint_(std::move(hint)) {}

Error Error::System(std::string_view what, std::string_view subject, int error_number) {
  std::string message = std::string(what) + " " + std::string(subject) + ": " + std::strerror(error_number);
  return Runtime(std::move(message));
}

Error Error::Within(std::string_view context) const { return {kind_, std::string(context) + ": " + message_, hint_}; }

}  // namespace april
